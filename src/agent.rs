/*!
The server on a target: holds parts, runs them, runs jobs, keeps their records.

| file       | what it is                                                                        |
|------------|-----------------------------------------------------------------------------------|
| `config`   | how to serve                                                                      |
| `state`    | what every request sees: the rooms below, and what is counted                     |
| `server`   | threads, signals, ending; `listen`: taking connections, encrypted or not          |
| `slots`    | the connections there are, and which of them goes for another                     |
| `routes`   | the endpoints below `/v1`; `guard`: who is let in                                 |
| `body`     | reading what is sent; `budget`: the memory of all requests in flight              |
| `store`    | the files it was sent, by SHA-256                                                 |
| `parts`    | parts made ready                                                                  |
| `infer`    | one request for inference: the cloud's side of a run                              |
| `v2`       | the same for everybody else: the Open Inference Protocol; `stats`: its statistics |
| `metrics`  | the counters behind `/metrics`; `info`: `/v1/info`; `power`: the energy of a run  |
| `jobs`     | the queue and the records; `events`: progress for followers; `pause`: waiting     |
| `work`     | what a job does, by its kind                                                      |
| `evaluate` | a run over samples: the edge's side; `samples`: their file                        |
| `offload`  | the edge's connection to the cloud; `paced`: an emulated link; `link`: timing it  |
| `profile`  | timing networks and parts; `train`: training heads                                |
*/

mod body;
mod budget;
mod config;
mod error;
mod evaluate;
mod events;
mod files;
mod forward;
mod guard;
mod infer;
mod info;
mod jobs;
mod link;
mod listen;
mod metrics;
mod offload;
mod onward;
pub mod paced;
mod parts;
mod pause;
mod power;
mod profile;
mod routes;
mod samples;
mod server;
mod slots;
mod state;
mod stats;
mod store;
mod train;
mod v2;
mod work;

pub use config::AgentConfig;
pub use error::AgentError;
pub use server::{Ended, serve};
pub use v2::is_name;
