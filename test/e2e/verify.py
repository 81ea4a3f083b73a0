"""Verifies identity tokens with joserfc, which knows nothing of gatehouse.

Usage: verify.py BASE ISSUER AUDIENCE SECRET < TOKENS, one a line; prints the header and
the claims of each as JSON. BASE is gatehouse's HTTP listener, where discovery begins.
"""
import json
import sys
import urllib.request

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

base, issuer, audience, secret = sys.argv[1:]


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


document = fetch(base + "/.well-known/openid-configuration")
if document["issuer"] != issuer:
    sys.exit(f"the document is of {document['issuer']}")
published = fetch(document["jwks_uri"])
if secret and published["keys"]:
    sys.exit("keys are published beside a shared secret")
keys = None if secret else KeySet.import_key_set(published)
asked = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": issuer},
    aud={"essential": True, "value": audience},
    sub={"essential": True},
    exp={"essential": True},
)
for line in sys.stdin:
    text = line.strip()
    try:
        if secret:
            token = jwt.decode(text, OctKey.import_key(secret), algorithms=["HS256"])
        else:
            token = jwt.decode(text, keys, algorithms=document["id_token_signing_alg_values_supported"])
        asked.validate(token.claims)
    except (JoseError, ValueError) as e:
        print(json.dumps({"error": repr(e)}))
        continue
    print(json.dumps({"header": token.header, "claims": token.claims}))
