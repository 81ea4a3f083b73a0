"""Signs one request with http-message-signatures, which knows nothing of gatehouse.

Usage: sign.py METHOD URL KEYID SECRET NONCE < BODY; prints the headers as JSON.
"""
import json
import sys

import http_message_signatures as hms


class Request:
    def __init__(self, method, url):
        self.method, self.url, self.headers = method, url, {}


class Key(hms.HTTPSignatureKeyResolver):
    def __init__(self, secret):
        self.secret = secret

    def resolve_private_key(self, key_id):
        return self.secret


method, url, key_id, secret, nonce = sys.argv[1:]
request = Request(method, url)
signer = hms.HTTPMessageSigner(signature_algorithm=hms.algorithms.HMAC_SHA256, key_resolver=Key(secret.encode()))
signer.sign(
    request,
    key_id=key_id,
    nonce=nonce,
    covered_component_ids=("@method", "@target-uri", "@authority"),
    body=sys.stdin.buffer.read(),
)
print(json.dumps(request.headers))
