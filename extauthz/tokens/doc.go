// Package tokens keeps what must outlive a process and be shared by all replicas:
// opaque API tokens and API keys (hashes only), the directory of people and
// services seen, revocations, the audit log and the nonces of peers.
//
// [Store] is the database, SQLite or PostgreSQL: every method of it is I/O. [View]
// is one replica's picture of the store in memory, kept up to date by the change
// feed: it is what requests ask. Start reading at [View.Token].
//
// The package decides who a token stands for, never what it may do, and knows
// nothing of requests, HTTP or the configuration file.
package tokens
