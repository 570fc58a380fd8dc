/*!
The server on a target: holds parts, runs them, runs jobs, keeps their records.

| file       | what it is                                                                       |
|------------|----------------------------------------------------------------------------------|
| `server`   | threads, ending; `listen`: taking connections, encrypted or not                  |
| `routes`   | the endpoints                                                                    |
| `store`    | what it was sent, by SHA-256                                                     |
| `parts`    | parts made ready                                                                 |
| `runner`   | a part that runs                                                                 |
| `infer`    | one request for inference: the cloud's side of a run                             |
| `v2`       | the same for everybody else: the Open Inference Protocol; `compress`: its bodies |
| `metrics`  | what `/metrics` tells; `power`: the energy of a run                              |
| `jobs`     | the queue, the records; `events`: what followers are told; `work`: what a job does |
| `evaluate` | a run over samples: the edge's side; `samples`: their file                       |
| `offload`  | the edge's connection to the cloud; `paced`: an emulated link; `link`: timing it |
| `profile`  | timing networks and parts; `learn`: training heads                               |
| `wait`     | waiting precisely                                                                |
*/

mod about;
mod compress;
mod error;
mod evaluate;
mod events;
mod hold;
mod infer;
mod jobs;
mod learn;
mod link;
mod listen;
mod metrics;
mod offload;
pub mod paced;
mod parts;
mod power;
mod profile;
mod routes;
mod samples;
mod server;
mod store;
mod v2;
mod work;

pub use error::AgentError;
pub use server::{AgentConfig, serve};
pub use v2::is_name;
