/*!
A part as a service that scales with its load, down to none: for KServe, for Knative without it, and for
Google Cloud Run, each with this program's agent or with Triton as the server.

| folder in the tier's | what it holds                                                                     |
|----------------------|-----------------------------------------------------------------------------------|
| `agent`              | the part's bundle, a Containerfile for an agent with it, and three manifests      |
| `triton`             | the model repository, a Containerfile for Triton with it, and three manifests     |
*/

use super::DeployError;
use super::serving::Serving;
use super::triton::{BATCH, Files, repository};
use crate::runtime::manifest::{Manifest, PartFiles};
use crate::runtime::parts::{Part, PartError, address};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where images and models are found by the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Registry and path before the name of an image, such as `registry.example.com/team`.
    pub images: String,
    /// Folder of model repositories as KServe reads it, such as `gs://bucket/models` or `pvc://claim/models`.
    pub models: String,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            images: "registry.example.com/edgelesspart".to_string(),
            models: "pvc://models".to_string(),
        }
    }
}

/// Port that the servers listen on, the one that Cloud Run and Knative take unless told.
const PORT: u16 = 8080;
/// Name of the secret with the agent's token, and of its key.
const SECRET: &str = "edgelesspart-token";
/// Variable in which an agent finds its token.
const TOKEN: &str = "EDGELESSPART_AGENT_TOKEN";
/// Replicas at most.
const REPLICAS: u32 = 4;
/// Requests in an agent at a time: one is computed while the next is read.
const AGENT_CONCURRENCY: i64 = 2;
/// MiB that a tritonserver holds before it has a model, with the process that runs `model.py`.
const TRITON_MIB: usize = 512;
/// MiB below which Cloud Run starts nothing.
const CLOUD_RUN_MIB: usize = 512;
/// Version of Triton's image that the manifests name.
const TRITON: &str = "25.08-py3";
const TRITON_IMAGE: &str = "nvcr.io/nvidia/tritonserver";
/// User without a name, as images without a user's database have it.
const NOBODY: u32 = 65_532;

/// All of a tier's folder, what the manifest says of its part, and why its model in Triton doesn't stop early.
pub(super) fn services(
    part: &Part,
    tier: &str,
    serving: &Serving,
    places: &Places,
) -> Result<(Files, Manifest, Option<&'static str>), DeployError> {
    let bundle = PartFiles::of(part)?.bundle()?;
    let (models, manifest, without) = repository(part, tier, serving)?;
    let version = &address(&bundle)[..12];
    let service = |server| Service::new(server, tier, version, serving, places);
    let (agent, triton) = (service(Server::Agent), service(Server::Triton));
    let mut files = Files::new();
    let mut add = |name: String, bytes: Vec<u8>| files.push((PathBuf::from(name), bytes));
    let archive = format!("{tier}.tar");
    add(format!("agent/{archive}"), bundle);
    let container = agent_containerfile(tier, &archive, &agent.image);
    add("agent/Containerfile".to_string(), container.into_bytes());
    let container = triton_containerfile(&triton.image);
    add("triton/Containerfile".to_string(), container.into_bytes());
    for service in [&agent, &triton] {
        for (file, said, manifest) in service.manifests() {
            let text = yaml(&said, &manifest)?;
            add(format!("{}/{file}", service.server), text.into_bytes());
        }
    }
    let models = models
        .into_iter()
        .map(|(path, bytes)| (Path::new("triton/models").join(path), bytes));
    files.extend(models);
    Ok((files, manifest, without))
}

/// A tier's name as Kubernetes takes one: lower case, digits and `-`, a letter first.
pub(super) fn service_name(tier: &str) -> String {
    let plain = tier.to_ascii_lowercase().replace('_', "-");
    let plain = plain.trim_matches('-');
    match plain.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => plain.to_string(),
        false => format!("tier-{plain}"),
    }
}

/// Who answers; shown as the folder that is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Server {
    Agent,
    Triton,
}

pub(super) struct Service {
    server: Server,
    name: String,
    /// The model's name.
    tier: String,
    image: String,
    /// The model repository, for KServe.
    storage: String,
    /// Requests in one replica at a time.
    concurrency: i64,
    cpus: usize,
    gpu: bool,
    memory_mib: usize,
    /// Whether CPUs and memory are those of a profile.
    measured: bool,
}

impl Service {
    pub(super) fn new(
        server: Server,
        tier: &str,
        version: &str,
        serving: &Serving,
        places: &Places,
    ) -> Service {
        let name = service_name(tier);
        let (concurrency, extra_mib, gpu) = match server {
            // Its image holds no library for a GPU.
            Server::Agent => (AGENT_CONCURRENCY, 0, false),
            Server::Triton => (BATCH, TRITON_MIB, serving.gpu),
        };
        Service {
            image: format!("{}/{name}-{server}:{version}", places.images),
            storage: format!("{}/{name}-{version}", places.models),
            name: format!("{name}-{server}"),
            server,
            tier: tier.to_string(),
            concurrency,
            cpus: serving.threads.max(1),
            gpu,
            memory_mib: serving.memory_mib.unwrap_or(CLOUD_RUN_MIB) + extra_mib,
            measured: serving.memory_mib.is_some(),
        }
    }

    /// Name, head comment and content of each manifest.
    pub(super) fn manifests(&self) -> [(&'static str, String, Value); 3] {
        let build = format!("podman build -t {0} . && podman push {0}", self.image);
        let tier = &self.tier;
        let fresh = "openssl rand -hex 32 | tr -d '\\n' |";
        let (kubernetes, google) = match self.server {
            Server::Agent => (
                format!(
                    "{fresh} kubectl create secret generic {SECRET} --from-file=token=/dev/stdin\n"
                ),
                format!("{fresh} gcloud secrets create {SECRET} --data-file=-\n"),
            ),
            Server::Triton => (String::new(), String::new()),
        };
        let token = match self.server {
            Server::Agent => format!(
                "It asks for the token of the secret {SECRET}, which is made once for all services."
            ),
            Server::Triton => {
                "Triton asks for no token: let the way into the cluster ask for one.".to_string()
            }
        };
        let apply = |file: &str| format!("kubectl apply -f {file}");
        let kserve = match self.server {
            Server::Agent => format!("{build}\n{kubernetes}"),
            Server::Triton => {
                format!(
                    "Copy what is in the folder models to {} first.\n",
                    self.storage
                )
            }
        };
        let kserve = kserve + &apply("kserve.yaml");
        let knative = format!("{build}\n{kubernetes}{}", apply("knative.yaml"));
        let replace = "gcloud run services replace cloud-run.yaml --region REGION";
        let run = format!("{build}\n{google}{replace}");
        let guess = match self.measured {
            true => "",
            false => "Nobody measured this tier: its CPUs and memory here are a guess.\n",
        };
        let head = |what: &str, how: &str| {
            format!(
                "The model `{tier}` of the Open Inference Protocol on {what}.\n{token}\n{guess}\n{how}"
            )
        };
        [
            ("kserve.yaml", head("KServe", &kserve), self.kserve()),
            ("knative.yaml", head("Knative", &knative), self.knative()),
            ("cloud-run.yaml", head("Cloud Run", &run), self.cloud_run()),
        ]
    }

    fn kserve(&self) -> Value {
        let mut predictor = json!({
            "minReplicas": 0,
            "maxReplicas": REPLICAS,
            "containerConcurrency": self.concurrency,
            "securityContext": pod_security(),
        });
        match self.server {
            Server::Agent => {
                let mut container = self.container();
                container["name"] = json!("kserve-container");
                predictor["containers"] = json!([container]);
            }
            Server::Triton => {
                predictor["model"] = json!({
                    "modelFormat": {"name": "triton"},
                    "protocolVersion": "v2",
                    "runtime": "kserve-tritonserver",
                    "runtimeVersion": TRITON,
                    "storageUri": self.storage,
                    "resources": self.resources(self.memory_mib),
                });
            }
        }
        json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": self.name},
            "spec": {"predictor": predictor},
        })
    }

    fn knative(&self) -> Value {
        let mut container = self.container();
        // Knative probes the port of its own accord.
        container["name"] = json!("user-container");
        json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {"template": {
                "metadata": {"annotations": {
                    "autoscaling.knative.dev/min-scale": "0",
                    "autoscaling.knative.dev/max-scale": REPLICAS.to_string(),
                }},
                "spec": {
                    "containerConcurrency": self.concurrency,
                    "containers": [container],
                },
            }},
        })
    }

    fn cloud_run(&self) -> Value {
        let mut container = self.container();
        let least = self.memory_mib.max(CLOUD_RUN_MIB);
        container["resources"] = json!({"limits": self.resources(least)["limits"]});
        if let Some(fields) = container.as_object_mut() {
            // Cloud Run holds a container apart by itself, and starts it by the first of its probes.
            fields.remove("securityContext");
            fields.remove("name");
            if let Some(ready) = fields.remove("readinessProbe") {
                fields.insert("startupProbe".to_string(), ready);
            }
        }
        if self.server == Server::Agent {
            // Of the Secret Manager, where the key is a version.
            container["env"][0]["valueFrom"]["secretKeyRef"]["key"] = json!("latest");
        }
        let mut annotations = json!({
            "autoscaling.knative.dev/minScale": "0",
            "autoscaling.knative.dev/maxScale": REPLICAS.to_string(),
        });
        if self.gpu {
            annotations["run.googleapis.com/gpu-zonal-redundancy-disabled"] = json!("true");
        }
        let mut spec = json!({
            "containerConcurrency": self.concurrency,
            "timeoutSeconds": 60,
            "containers": [container],
        });
        if self.gpu {
            spec["nodeSelector"] = json!({"run.googleapis.com/accelerator": "nvidia-l4"});
        }
        json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {"template": {"metadata": {"annotations": annotations}, "spec": spec}},
        })
    }

    fn container(&self) -> Value {
        let mut container = json!({
            "image": self.image,
            "ports": [{"containerPort": PORT}],
            "readinessProbe": probe("/v2/health/ready"),
            "livenessProbe": probe("/v2/health/live"),
            "resources": self.resources(self.memory_mib),
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        });
        if self.server == Server::Agent {
            let secret = json!({"name": SECRET, "key": "token"});
            container["env"] = json!([{"name": TOKEN, "valueFrom": {"secretKeyRef": secret}}]);
        }
        container
    }

    /// What it is given: as many CPUs as were measured with, and the memory that the plan's bill rents.
    fn resources(&self, memory_mib: usize) -> Value {
        let mut given = json!({
            "cpu": self.cpus.to_string(),
            "memory": format!("{memory_mib}Mi"),
        });
        let asked = given.clone();
        if self.gpu {
            given["nvidia.com/gpu"] = json!("1");
        }
        json!({"requests": asked, "limits": given})
    }
}

fn probe(path: &str) -> Value {
    json!({
        "httpGet": {"path": path, "port": PORT},
        "periodSeconds": 5,
        "timeoutSeconds": 2,
        "failureThreshold": 6,
    })
}

fn pod_security() -> Value {
    json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
}

/// A manifest below its head comment.
fn yaml(head: &str, manifest: &Value) -> Result<String, DeployError> {
    let comment = head.trim_end().lines().map(|line| match line {
        "" => "#\n".to_string(),
        line => format!("# {line}\n"),
    });
    let text = serde_saphyr::to_string(manifest).map_err(|e| PartError::Export {
        file: "manifest.yaml".to_string(),
        what: e.to_string(),
    })?;
    Ok(comment.collect::<String>() + &text)
}

fn agent_containerfile(tier: &str, archive: &str, image: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "# An agent that serves the part {archive} as the model `{tier}` of the Open Inference Protocol.\n\
         # Its base is what the Containerfile among the program's sources makes: one static program, run by\n\
         # a user without rights. TLS ends in front of it; the token comes by {TOKEN}.\n\
         #\n\
         #   podman build -t {image} .\n\
         ARG AGENT=localhost/edgelesspart:{version}\n\
         FROM ${{AGENT}}\n\
         COPY {archive} /parts/{archive}\n\
         USER {NOBODY}:{NOBODY}\n\
         EXPOSE {PORT}\n\
         ENTRYPOINT [\"/edgelesspart\", \"agent\", \"--listen\", \"0.0.0.0:{PORT}\", \"--insecure\", \
         \"--data\", \"/data\", \"--log-json\", \"--model\", \"{tier}=/parts/{archive}\"]\n"
    )
}

fn triton_containerfile(image: &str) -> String {
    format!(
        "# Triton with the part's model repository.\n\
         #\n\
         #   podman build -t {image} .\n\
         ARG TRITON={TRITON_IMAGE}:{TRITON}\n\
         FROM ${{TRITON}}\n\
         COPY models /models\n\
         # The image's own user without rights, triton-server.\n\
         USER 1000:1000\n\
         EXPOSE {PORT}\n\
         ENTRYPOINT [\"tritonserver\", \"--model-repository=/models\", \"--http-port={PORT}\", \
         \"--allow-grpc=false\", \"--allow-metrics=false\"]\n"
    )
}
