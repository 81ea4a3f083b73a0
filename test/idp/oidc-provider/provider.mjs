// A certified OpenID provider (https://github.com/panva/node-oidc-provider) as the issuer of
// the end-to-end tests. Usage: node provider.mjs [PORT]; prints {"issuer": URL} when it serves.
//
// The token endpoint takes two parameters that no real provider has, so that a test can say
// what it needs: `claims`, a JSON object laid over the token's claims (null removes one), and
// `alg`, the signing algorithm. Everything else is oidc-provider as it comes.
//
// Below /control a test changes the provider while it runs:
//   PUT    /control/keys/KID?alg=ALG   makes a new key; it signs from now on
//   DELETE /control/keys/KID           withdraws it
//   PUT    /control/outage?status=503  answers everything with that status (0: normal again)
//   GET    /control/requests           how often each path was asked for, as JSON
import crypto from 'node:crypto';
import http from 'node:http';
import Provider from 'oidc-provider';

const audience = 'orders';

function makeKey(kid, alg) {
  const make = {
    RS256: () => crypto.generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: () => crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: () => crypto.generateKeyPairSync('ed25519'),
  }[alg];
  return { ...make().privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

let keys = [makeKey('rsa-1', 'RS256'), makeKey('ec-1', 'ES256'), makeKey('ed-1', 'EdDSA')];
let issuer;
let handle;
let outage = 0;
const requests = {};

const clients = [
  // Gets signed access tokens (RFC 9068, typ at+jwt).
  { client_id: 'signed', client_secret: 'signed-secret', token_endpoint_auth_method: 'client_secret_post' },
  // Gets opaque ones, for introspection (RFC 7662).
  { client_id: 'opaque', client_secret: 'opaque-secret', token_endpoint_auth_method: 'client_secret_post' },
  // A command line client that sends its secret by HTTP Basic.
  { client_id: 'cli', client_secret: 'cli-secret', token_endpoint_auth_method: 'client_secret_basic' },
  // Asks about opaque tokens.
  { client_id: 'gatehouse', client_secret: 'gatehouse-secret', token_endpoint_auth_method: 'client_secret_basic' },
].map((client) => ({ ...client, grant_types: ['client_credentials'], redirect_uris: [], response_types: [] }));

const asked = (ctx) => JSON.parse(ctx.oidc.body?.claims ?? '{}') ?? {};

function lay(over, claims) {
  for (const [name, value] of Object.entries(over)) {
    if (value === null) delete claims[name];
    else claims[name] = value;
  }
}

function build() {
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys },
    cookies: { keys: ['gatehouse'] },
    enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    scopes: ['orders:read', 'orders:write'],
    ttl: { ClientCredentials: 300 },
    // Opaque tokens keep the claims for introspection; of signed ones see formats.
    extraTokenClaims: (ctx, token) => (token.resourceServer?.accessTokenFormat === 'opaque' ? asked(ctx) : undefined),
    formats: {
      customizers: {
        jwt(ctx, token, parts) { lay(asked(ctx), parts.payload); },
      },
    },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:orders',
        useGrantedResource: () => true,
        getResourceServerInfo(ctx, _resource, client) {
          const alg = ctx.oidc.body?.alg ?? 'RS256';
          return {
            audience,
            scope: 'orders:read orders:write',
            accessTokenTTL: 300,
            accessTokenFormat: client.clientId === 'opaque' ? 'opaque' : 'jwt',
            // the newest key of the algorithm signs
            jwt: { sign: { alg, kid: keys.findLast((key) => key.alg === alg)?.kid } },
          };
        },
      },
    },
  });
  provider.on('server_error', (_ctx, err) => console.error(err));
  provider.on('grant.error', (_ctx, err) => console.error(err.error, err.error_description, err.error_detail ?? ''));
  handle = provider.callback();
}

function control(method, url, res) {
  const [, , what, kid] = url.pathname.split('/');
  const step = `${method} ${what}`;
  if (step === 'PUT keys') keys = [...keys, makeKey(kid, url.searchParams.get('alg'))];
  else if (step === 'DELETE keys') keys = keys.filter((key) => key.kid !== kid);
  else if (step === 'PUT outage') outage = Number(url.searchParams.get('status'));
  else if (step !== 'GET requests') {
    res.writeHead(404).end();
    return;
  }
  if (what === 'keys') build();
  res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(requests));
}

const server = http.createServer((req, res) => {
  const url = new URL(req.url, issuer);
  if (url.pathname.startsWith('/control/')) {
    control(req.method, url, res);
    return;
  }
  requests[url.pathname] = (requests[url.pathname] ?? 0) + 1;
  if (outage) res.writeHead(outage, { 'content-type': 'application/json' }).end('{"error":"server_error"}');
  else handle(req, res);
});
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  build();
  console.log(JSON.stringify({ issuer }));
});
