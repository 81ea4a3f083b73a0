package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/argon2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	overloadFor     = 5 * time.Second
	overloadTimeout = 200 * time.Millisecond // Envoy's default for a Check

	// overloadTokens are enough for none to be sent twice: each costs a verification,
	// work that is dear beside the sending of it, or the load and not gatehouse would
	// be what is saturated.
	overloadTokens = 120_000

	// overloadPeople are enough for no password to be sent twice, at some 15 ms each.
	overloadPeople = 2_000

	// overloadForeign of a hundred callers lack the role.
	overloadForeign = 10
)

// overloads are the kinds of work that gatehouse is given too much of.
func overloads() []scenario {
	return []scenario{
		{name: "overload: never-seen ES256 tokens", routes: 10, load: freshES256},
		{name: "overload: passwords", routes: 10, load: passwords},
	}
}

// Overload is what came of twice the load that a gatehouse on one core can answer.
type Overload struct {
	Scenario         string  `json:"scenario"`
	PeakPerSecond    float64 `json:"peak_per_second"`    // good answers, in a closed loop
	OfferedPerSecond float64 `json:"offered_per_second"` // in an open loop
	GoodPerSecond    float64 `json:"good_per_second"`    // answered rightly, in time
	Goodput          float64 `json:"goodput"`            // ratio of good to peak
	P50Millis        float64 `json:"p50_ms"`             // of the good ones
	P99Millis        float64 `json:"p99_ms"`
	Refused          int     `json:"refused"` // 503 by gatehouse
	Late             int     `json:"late"`    // no answer in time
	Errors           int     `json:"errors"`  // RPC errors
	Wrong            int     `json:"wrong"`   // allowed without the role, or denied with it
}

// A shot is one Check and whether it should be allowed.
type shot struct {
	message []byte
	want    uint64
}

// overload saturates a gatehouse of one core, and then offers twice that.
func (l *lab) overload(ctx context.Context, s scenario) (Overload, error) {
	o := Overload{Scenario: s.name}
	grpc, err := freeAddress()
	if err != nil {
		return o, err
	}
	ops, err := freeAddress()
	if err != nil {
		return o, err
	}
	config, err := l.config(s, grpc, ops)
	if err != nil {
		return o, err
	}
	shots, err := l.shots(s.load)
	if err != nil {
		return o, err
	}
	server, release, err := apart(func() (*process, error) {
		return start(l.dir, l.binary, []string{"GOMAXPROCS=1"}, l.serve(config)...)
	})
	if err != nil {
		return o, err
	}
	defer release()
	defer server.stop()
	c, err := dial(grpc, l.opts.connections)
	if err != nil {
		return o, err
	}
	defer c.close()
	if err := c.first(ctx, shots[0].message, shots[0].want); err != nil {
		return o, fmt.Errorf("the first Check: %w\n%s", err, server.output())
	}
	var next atomic.Int64
	take := func() shot { return shots[int(next.Add(1))%len(shots)] }
	good, elapsed := c.closed(ctx, 64, take)
	o.PeakPerSecond = float64(good) / elapsed.Seconds()
	if l.opts.profile != "" {
		finish, err := l.profile(ops, s.name)
		if err != nil {
			return o, err
		}
		defer finish()
	}
	c.open(ctx, 2*o.PeakPerSecond, take, &o)
	o.Goodput = o.GoodPerSecond / o.PeakPerSecond
	return o, nil
}

// shots makes the Checks, each with a credential of its own.
func (l *lab) shots(work load) ([]shot, error) {
	n, credential := overloadPeople, basicCredential
	if work == freshES256 {
		key, err := l.ecdsaKey(filepath.Join(l.dir, "es256.json"))
		if err != nil {
			return nil, err
		}
		n, credential = overloadTokens, func(i int) (string, error) {
			token, err := signedToken(es256, key, i, overloadRole(i))
			return "Bearer " + token, err
		}
	}
	shots := make([]shot, n)
	for i := range shots {
		value, err := credential(i)
		if err != nil {
			return nil, err
		}
		message, err := proto.Marshal(check("/tenants/acme/orders/4711", map[string]string{"authorization": value}))
		if err != nil {
			return nil, err
		}
		shots[i] = shot{message, codeOK}
		if i%100 < overloadForeign {
			shots[i].want = codePermissionDenied
		}
	}
	return shots, nil
}

func overloadRole(i int) string {
	if i%100 < overloadForeign {
		return "guest"
	}
	return "reader"
}

// es256 signs fast, and verifies slower than it signs.
var es256 = jwt.SigningMethodES256

// ecdsaKey makes a key for it, and writes the public half to file.
func (l *lab) ecdsaKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	jwk, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: keyID, ALG: jwkset.AlgES256, USE: jwkset.UseSig}})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{"keys": []any{jwk.Marshal()}})
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(file, text, 0o600)
}

const password = "correct horse battery staple"

func person(i int) string { return fmt.Sprintf("person-%04d", i) }

func basicCredential(i int) (string, error) {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(person(i)+":"+password)), nil
}

// passwordHash is everybody's, with the least that OWASP asks of argon2id.
func passwordHash() string {
	salt := []byte("bench salt 16 by")
	key := argon2.IDKey([]byte(password), salt, 2, 19456, 1, 32)
	return fmt.Sprintf("$argon2id$v=19$m=19456,t=2,p=1$%s$%s", base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// closed keeps concurrency Checks in flight and counts the right answers.
func (c client) closed(ctx context.Context, concurrency int, take func() shot) (good int64, elapsed time.Duration) {
	begin := time.Now()
	until := begin.Add(overloadFor)
	var n atomic.Int64
	var wg sync.WaitGroup
	for i := range concurrency {
		wg.Go(func() {
			for time.Now().Before(until) {
				s := take()
				var answer []byte
				if err := c[i%len(c)].Invoke(ctx, checkMethod, &s.message, &answer); err != nil {
					continue
				}
				if got, err := statusCode(answer); err == nil && got == s.want {
					n.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return n.Load(), time.Since(begin)
}

// open sends perSecond Checks whatever becomes of those before, as clients do.
func (c client) open(ctx context.Context, perSecond float64, take func() shot, o *Overload) {
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	begin := time.Now()
	sent := 0
	for elapsed := time.Duration(0); elapsed < overloadFor; elapsed = time.Since(begin) {
		for due := int(perSecond * elapsed.Seconds()); sent < due; sent++ {
			conn, s := c[sent%len(c)], take()
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, overloadTimeout)
				defer cancel()
				var answer []byte
				at := time.Now()
				err := conn.Invoke(ctx, checkMethod, &s.message, &answer)
				after := time.Since(at)
				mu.Lock()
				defer mu.Unlock()
				switch got, bad := statusCode(answer); {
				case status.Code(err) == codes.DeadlineExceeded:
					o.Late++
				case err != nil || bad != nil:
					o.Errors++
				case got == s.want:
					took = append(took, after)
				case got == codeUnavailable:
					o.Refused++
				default:
					o.Wrong++
				}
			})
		}
		time.Sleep(time.Millisecond)
	}
	elapsed := time.Since(begin)
	wg.Wait()
	o.OfferedPerSecond = float64(sent) / elapsed.Seconds()
	o.GoodPerSecond = float64(len(took)) / elapsed.Seconds()
	o.P50Millis, o.P99Millis = quantiles(took)
}

// quantiles are the median and the 99th percentile in milliseconds; 0 of nothing.
func quantiles(took []time.Duration) (p50, p99 float64) {
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	millis := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	return millis(0.5), millis(0.99)
}
