//! The origin that lies, hangs, hurries and dies: raw sockets against the real client.

mod answers;
mod fake;
mod pool;
mod times;
mod tunnels;
