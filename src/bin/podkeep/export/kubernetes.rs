//! A Deployment.

use super::{Plan, seconds, utf8};
use crate::options::Options;
use clap::Args;
use serde_json::{Value, json};
use std::ffi::OsString;

/// Write a Deployment
///
/// The probes ask podkeep inside the container. Names, arguments and values are what they were, escaped where Kubernetes
/// would expand them. A path is one of the image, and whole.
#[derive(Args)]
#[command(override_usage = "\
podkeep export kubernetes --image IMAGE [OPTIONS] -- COMMAND [ARG]...
       podkeep export kubernetes --image IMAGE [OPTIONS] --library PATH --symbol SYMBOL")]
pub struct Kubernetes {
    /// The image, with podkeep in it
    #[arg(long, help_heading = "The Deployment", value_parser = image)]
    image: String,

    /// How many pods of Kubernetes
    #[arg(long, help_heading = "The Deployment", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(0..))]
    replicas: i32,

    /// A TCP port that it listens on; may be repeated
    #[arg(long, help_heading = "The Deployment", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Vec<u16>,

    /// The user and the group that it runs as: not root
    #[arg(long, help_heading = "The Deployment", value_name = "ID", default_value_t = 65532, value_parser = clap::value_parser!(i64).range(1..=0x7fff_ffff))]
    uid: i64,

    /// The podkeep of the image
    #[arg(long, help_heading = "The Deployment", value_name = "PATH", default_value = "podkeep")]
    program: String,

    #[command(flatten)]
    pub options: Options,
}

const SOCKETS: &str = "/run/podkeep";
/// Of a start that podkeep sets no limit to, or that may need several lives, in seconds: what a Deployment has for its
/// progress, unless it says otherwise.
const START: i64 = 600;

impl Kubernetes {
    /// Err: a sentence.
    pub fn manifest(&self, plan: &Plan) -> Result<String, String> {
        let label = &plan.label;
        let stop = plan.stop.ok_or("Kubernetes has a limit for every stop: give --grace a time")?;
        let start = match plan.life.map(seconds) {
            Some(life) if !plan.restarts => life,
            life => life.unwrap_or(0).max(START),
        };
        let start = i32::try_from(start).map_err(|_| "--ready-timeout is longer than Kubernetes can count")?;
        let address = format!("unix:{SOCKETS}/{label}.sock");
        let of_the_pod: &[&str] = match plan.name.as_str() {
            "live" => &[], // by that name the library itself is asked for; all pods are this one
            name if name.starts_with('-') => &["--", name],
            name => &[name],
        };
        let probe = |of: &[&str], period: i32, failures: i32| {
            let words = [&self.program as &str, "health", &address].into_iter().chain(of.iter().copied());
            json!({
                "exec": {"command": words.map(unexpanded).collect::<Vec<_>>()},
                "periodSeconds": period,
                "timeoutSeconds": 5, // to start a process on a busy node; the answer itself takes milliseconds
                "failureThreshold": failures,
            })
        };
        let mut command = vec![unexpanded(&self.program), "run".into(), format!("--listen={address}")];
        for word in &plan.words {
            command.push(unexpanded(utf8(word)?));
        }
        let mut container = json!({
            "name": label,
            "image": self.image,
            "command": command,
            // Each second: the sooner it is seen to be ready, the sooner it is used.
            "startupProbe": probe(of_the_pod, 1, start),
            // Once is enough: it is podkeep's own word, and no guess.
            "readinessProbe": probe(of_the_pod, 5, 1),
            // Not the pod: one that podkeep restarts is not to be killed from above.
            "livenessProbe": probe(&["--live"], 10, 3),
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
            },
            "volumeMounts": [
                {"name": "podkeep", "mountPath": SOCKETS},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        });
        if !plan.env.is_empty() {
            container["env"] = self.environment(plan)?;
        }
        if let Some(directory) = &self.options.cwd {
            container["workingDir"] = utf8(directory.as_os_str())?.into();
        }
        if !self.port.is_empty() {
            container["ports"] = self.port.iter().map(|port| json!({"containerPort": port})).collect();
        }
        let labels = json!({
            "app.kubernetes.io/name": label,
            "app.kubernetes.io/instance": label,
        });
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": label, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "progressDeadlineSeconds": START.max(i64::from(start) + 60).min(i32::MAX.into()),
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "terminationGracePeriodSeconds": seconds(stop),
                        "securityContext": {
                            "runAsNonRoot": true,
                            "runAsUser": self.uid,
                            "runAsGroup": self.uid,
                            "fsGroup": self.uid,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "containers": [container],
                        "volumes": [
                            {"name": "podkeep", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                            {"name": "tmp", "emptyDir": {}},
                        ],
                    },
                },
            },
        });
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        let text = serde_saphyr::to_string_with_options(&deployment, options);
        text.map_err(|why| format!("the manifest cannot be written: {why}"))
    }

    fn environment(&self, plan: &Plan) -> Result<Value, String> {
        let variable = |(key, value): &(OsString, OsString)| {
            let key = utf8(key)?;
            if key.starts_with(|c: char| c.is_ascii_digit())
                || !key.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            {
                return Err(format!("'{key}' is no variable of Kubernetes': letters, digits, '-', '_', '.'"));
            }
            Ok(json!({"name": key, "value": unexpanded(utf8(value)?)}))
        };
        plan.env.iter().map(variable).collect()
    }
}

/// "$(NAME)" would be a variable's value there, and "$$" is one dollar.
fn unexpanded(word: &str) -> String {
    word.replace('$', "$$")
}

fn image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("an image is a name without a space, such as registry.example/web:1".into());
    }
    Ok(text.into())
}
