package extauthz

// A Snapshot is one configuration, ready to decide. It is immutable and safe for
// concurrent use.
type Snapshot struct {
	config *Config
}

// NewSnapshot precomputes what requests need. config must not be changed afterwards.
func NewSnapshot(config *Config) *Snapshot { return &Snapshot{config: config} }

// Config is what the snapshot was made of.
func (s *Snapshot) Config() *Config { return s.config }
