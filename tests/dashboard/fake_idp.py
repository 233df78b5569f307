"""A small OpenID Connect provider on loopback: whoever comes is signed in at once, as the account that is set."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = "dashboard"


@dataclass
class Provider:
    """The running provider; `email` and `verified` are what it says of who comes next."""

    email: str = "ann@example.com"
    verified: bool = True
    url: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"}, private=True))
    _nonces: dict[str, str] = field(default_factory=dict[str, str])

    def secrets(self, home: str, people: str) -> str:
        """The dashboard's secrets file: this provider, and who may sign in (lines of TOML)."""
        return (
            f'[auth]\nredirect_uri = "{home}/oauth2callback"\ncookie_secret = "{uuid4().hex}"\nclient_id = "{CLIENT}"\n'
            f'client_secret = "x"\nserver_metadata_url = "{self.url}/.well-known/openid-configuration"\n'
            f"[onceq.people]\n{people}\n"
        )

    def answer(self, path: str, query: dict[str, str], form: dict[str, str]) -> dict[str, object] | str:
        """A JSON answer, or where to go."""
        match path:
            case "/.well-known/openid-configuration":
                return self._metadata()
            case "/jwks":
                return {"keys": [self.key.as_dict(private=False)]}
            case "/authorize":
                code = uuid4().hex
                self._nonces[code] = query.get("nonce", "")
                return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
            case _:
                return self._token(self._nonces.pop(form["code"]))

    def _metadata(self) -> dict[str, object]:
        places: dict[str, object] = {
            "authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        }  # fmt: skip
        return places | {
            "issuer": self.url, "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"], "scopes_supported": ["openid", "email", "profile"],
        }  # fmt: skip

    def _token(self, nonce: str) -> dict[str, object]:
        now = int(time.time())
        claims = {"iss": self.url, "sub": self.email, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce,
                  "email": self.email, "email_verified": self.verified}  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims, self.key)
        return {"access_token": uuid4().hex, "token_type": "Bearer", "expires_in": 300, "id_token": token}


@contextmanager
def providing() -> Generator[Provider]:
    """The provider on a free port, until the end of the block."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            self._send({name: values[0] for name, values in parse_qs(body).items()})

        def _send(self, form: dict[str, str]) -> None:
            asked = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(asked.query).items()}
            answer = provider.answer(asked.path, query, form)
            body = b"" if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(302 if isinstance(answer, str) else 200)
            if isinstance(answer, str):
                self.send_header("Location", answer)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
