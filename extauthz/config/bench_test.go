package config

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"
)

// manyRoutes is a file with n routes as operators write them.
func manyRoutes(n int) []byte {
	var b bytes.Buffer
	b.WriteString("version: 1\nauthenticators:\n- {name: corp, jwt: {issuer: \"https://idp.example.com\", any_audience: true, principal: {tenant: {claim: org}, roles: {claim: groups}}}}\nroutes:\n")
	for i := range n {
		fmt.Fprintf(&b, "- match: [\"GET,HEAD /tenants/{tenant}/service%d/\"]\n  name: read-%d\n  allow:\n  - tenant: \"{path.tenant}\"\n    roles: {any: [reader, admin]}\n", i, i)
	}
	return b.Bytes()
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{10, 1000, 10000, 100000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			path := b.TempDir() + "/config.yaml"
			if err := os.WriteFile(path, manyRoutes(n), 0o600); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			var parsing, building time.Duration
			for b.Loop() {
				start := time.Now()
				data, _ := readFile(path)
				doc, problems := parse(path, data, os.LookupEnv)
				if len(problems) > 0 {
					b.Fatal(problems[0])
				}
				parsing += time.Since(start)
				start = time.Now()
				builder := newBuilder(doc, path, os.LookupEnv, nil)
				builder.build()
				if len(builder.errors) > 0 {
					b.Fatal(builder.errors[0])
				}
				building += time.Since(start)
			}
			b.ReportMetric(parsing.Seconds()/float64(b.N), "parse-s/op")
			b.ReportMetric(building.Seconds()/float64(b.N), "build-s/op")
		})
	}
}
