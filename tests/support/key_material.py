"""Keys of asymmetric algorithms, in the encodings that SECRET_KEY must not have."""

import base64
import json

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


def generate_key_material() -> dict[str, str]:
    """Return new keys by the name of their encoding."""
    private = ec.generate_private_key(ec.SECP256R1())
    public = rsa.generate_private_key(65537, 2048).public_key()
    spki = PublicFormat.SubjectPublicKeyInfo
    pem = public.public_bytes(Encoding.PEM, spki).decode()
    der = public.public_bytes(Encoding.DER, spki)
    pkcs8 = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    ed = ed25519.Ed25519PrivateKey.generate().public_key()
    jwk = json.dumps({"kty": "RSA", "n": "AQAB", "e": "AQAB"})
    return {
        "PEM": pem,
        "PEM with escaped line ends": pem.replace("\n", "\\n"),
        "PEM after a blank line": f"\n {pem}",
        "PEM in base64": base64.b64encode(pem.encode()).decode(),
        "DER in base64": base64.b64encode(der).decode(),
        "DER in url-safe base64": base64.urlsafe_b64encode(der).decode().rstrip("="),
        "DER in hex": der.hex(),
        "private DER in base64": base64.b64encode(pkcs8).decode(),
        "short DER in hex": ed.public_bytes(Encoding.DER, spki).hex(),
        "DER as it is": der.decode("latin-1"),
        "OpenSSH": ed.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
        "JWK": jwk,
        "JWK set": json.dumps({"keys": [json.loads(jwk)]}),
        "JWK in base64": base64.b64encode(jwk.encode()).decode(),
    }
