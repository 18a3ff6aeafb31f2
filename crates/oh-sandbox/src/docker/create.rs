//! The description of a container, as the engine gets it.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, Mount, MountType, PortBinding, ResourcesUlimits,
};
use secrecy::ExposeSecret;

use crate::docker::{
    config,
    leftovers::{KEPT, OWNER, SERVER_PORT, WORKSPACE},
    settings::{Settings, Volume},
};

/// Returns the name of a port in the engine's API.
pub(crate) fn port_name(port: u16) -> String {
    format!("{port}/tcp")
}

/// Returns the description. `port` is the server's port in the container. `owner` is the label of
/// this process. `limited` is false after the engine has refused the limits.
pub(crate) fn body(
    settings: &Settings,
    port: u16,
    owner: &str,
    limited: bool,
) -> ContainerCreateBody {
    let mut ports = settings.ports.clone();
    let shares = settings.shares_network();
    if !shares {
        ports.push(port);
    }
    let host = if shares {
        settings.published_on.to_string()
    } else {
        "0.0.0.0".to_owned()
    };
    let mut command = vec![
        "--host".to_owned(),
        host,
        "--port".to_owned(),
        port.to_string(),
    ];
    command.extend(settings.options.arguments.iter().cloned());
    ContainerCreateBody {
        image: Some(settings.image.clone()),
        cmd: Some(match settings.entrypoint {
            Some(_) => Vec::new(),
            None => command,
        }),
        entrypoint: settings.entrypoint.clone(),
        open_stdin: Some(settings.entrypoint.is_some()),
        env: Some(variables(settings)),
        user: settings.user.clone(),
        exposed_ports: Some(ports.iter().copied().map(port_name).collect()),
        labels: Some(labels(settings, port, owner)),
        host_config: Some(host_config(settings, &ports, limited)),
        ..ContainerCreateBody::default()
    }
}

/// Returns the variables. None of ours is secret.
fn variables(settings: &Settings) -> Vec<String> {
    let ours = settings
        .options
        .usual_variables(config::PATH, &settings.workspace);
    let dormant = settings
        .dormant
        .then(|| ("OH_DEFERRED_INIT", "true".to_owned()));
    let ours = ours.into_iter().chain(dormant);
    let ours = ours.map(|(name, value)| (name.to_owned(), value));
    let chosen = settings.options.chosen_variables().into_iter();
    let chosen = chosen.map(|(name, value)| (name, value.expose_secret().to_owned()));
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in ours.chain(chosen) {
        all.retain(|(other, _)| *other != name);
        all.push((name, value));
    }
    all.into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn labels(settings: &Settings, port: u16, owner: &str) -> HashMap<String, String> {
    let chosen = settings.labels.iter();
    let mut labels: HashMap<_, _> = chosen
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut set = |name: &str, value: String| drop(labels.insert(name.to_owned(), value));
    set(OWNER, owner.to_owned());
    set(WORKSPACE, settings.workspace.clone());
    set(SERVER_PORT, port.to_string());
    if settings.keep {
        set(KEPT, "true".to_owned());
    }
    labels
}

fn host_config(settings: &Settings, ports: &[u16], limited: bool) -> HostConfig {
    let binding = || PortBinding {
        host_ip: Some(settings.published_on.to_string()),
        // The engine chooses the port.
        host_port: Some(String::new()),
    };
    let bindings = ports
        .iter()
        .map(|port| (port_name(*port), Some(vec![binding()])));
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let limits = settings
        .limits
        .iter()
        .map(|(name, soft, hard)| ResourcesUlimits {
            name: Some(name.clone()),
            soft: Some(number(*soft)),
            hard: Some(number(*hard)),
        });
    let memory = settings.memory.map(number);
    HostConfig {
        port_bindings: (!settings.shares_network()).then(|| bindings.collect()),
        network_mode: settings.network.clone(),
        extra_hosts: (!settings.hosts.is_empty()).then(|| settings.hosts.clone()),
        mounts: Some(settings.volumes.iter().map(mount).collect()),
        memory,
        // The sum of memory and swap space: no swap space in addition.
        memory_swap: memory,
        nano_cpus: settings.cpus.map(nano_cpus),
        pids_limit: settings.pids.map(i64::from),
        ulimits: limited.then(|| limits.collect()),
        device_requests: settings.gpus.then(|| vec![all_gpus()]),
        cap_drop: (!settings.usual_capabilities).then(|| vec!["ALL".to_owned()]),
        cap_add: (!settings.capabilities.is_empty()).then(|| settings.capabilities.clone()),
        security_opt: (!settings.new_privileges).then(|| vec!["no-new-privileges".to_owned()]),
        ..HostConfig::default()
    }
}

fn mount(volume: &Volume) -> Mount {
    Mount {
        typ: Some(if volume.named {
            MountType::VOLUME
        } else {
            MountType::BIND
        }),
        source: Some(volume.source.clone()),
        target: Some(volume.target.clone()),
        read_only: Some(volume.read_only),
        ..Mount::default()
    }
}

fn all_gpus() -> DeviceRequest {
    DeviceRequest {
        count: Some(-1),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    }
}

/// Returns billionths of a CPU.
fn nano_cpus(cpus: f64) -> i64 {
    // Saturates, which the engine then rejects with its maximum.
    (cpus * 1e9) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::settings::PORT;

    fn json(settings: &Settings) -> serde_json::Value {
        serde_json::to_value(body(settings, PORT, "me", true)).unwrap()
    }

    #[test]
    fn the_default_container_is_confined_and_reachable_from_this_machine_only() {
        let body = json(&Settings::default());
        let host = &body["HostConfig"];
        assert_eq!(host["PortBindings"]["8000/tcp"][0]["HostIp"], "127.0.0.1");
        assert_eq!(host["PortBindings"]["8000/tcp"][0]["HostPort"], "");
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
        assert_eq!(
            host["SecurityOpt"],
            serde_json::json!(["no-new-privileges"])
        );
        assert_eq!(host["Ulimits"][0]["Name"], "nofile");
        assert_eq!(host["Privileged"], serde_json::Value::Null);
        assert_eq!(body["Labels"][OWNER], "me");
        assert_eq!(body["Labels"][KEPT], serde_json::Value::Null);
    }

    #[test]
    fn keys_are_in_no_part_of_the_description() {
        let mut settings = Settings::default();
        settings.options.server.keys = vec!["canary-canary-session".into()];
        settings.options.server.secret_key = Some("canary-canary-secret".into());
        assert!(!json(&settings).to_string().contains("canary"));
    }

    #[test]
    fn each_option_is_sent_to_the_engine() {
        let mut settings = Settings {
            memory: Some(1 << 30),
            cpus: Some(1.5),
            pids: Some(99),
            gpus: true,
            keep: true,
            user: Some("1:2".to_owned()),
            ports: vec![8001],
            volumes: vec![
                Volume::bind("/a", "/b").read_only(true),
                Volume::named("c", "/d"),
            ],
            hosts: vec!["h:host-gateway".to_owned()],
            capabilities: vec!["CHOWN".to_owned()],
            usual_capabilities: true,
            new_privileges: true,
            ..Settings::default()
        };
        settings.dormant = true;
        settings.options.variables = vec![("LOG_LEVEL".to_owned(), "DEBUG".into())];
        let body = json(&settings);
        let host = &body["HostConfig"];
        assert_eq!(host["Memory"], 1 << 30);
        assert_eq!(host["MemorySwap"], 1 << 30);
        assert_eq!(host["NanoCpus"], 1_500_000_000_i64);
        assert_eq!(host["PidsLimit"], 99);
        assert_eq!(host["DeviceRequests"][0]["Count"], -1);
        assert_eq!(host["Mounts"][0]["Type"], "bind");
        assert_eq!(host["Mounts"][0]["ReadOnly"], true);
        assert_eq!(host["Mounts"][1]["Type"], "volume");
        assert_eq!(host["ExtraHosts"][0], "h:host-gateway");
        assert_eq!(host["CapAdd"][0], "CHOWN");
        assert_eq!(host["CapDrop"], serde_json::Value::Null);
        assert_eq!(host["SecurityOpt"], serde_json::Value::Null);
        assert!(host["PortBindings"]["8001/tcp"].is_array());
        assert_eq!(body["User"], "1:2");
        assert_eq!(body["Labels"][KEPT], "true");
        let env = body["Env"].as_array().unwrap();
        let levels: Vec<_> = env
            .iter()
            .filter_map(|value| value.as_str()?.strip_prefix("LOG_LEVEL="))
            .collect();
        assert_eq!(levels, ["DEBUG"]);
        assert!(env.contains(&"OH_DEFERRED_INIT=true".into()));
    }

    #[test]
    fn a_shared_network_publishes_nothing_and_listens_on_loopback() {
        let settings = Settings {
            network: Some("host".to_owned()),
            ..Settings::default()
        };
        let body = serde_json::to_value(body(&settings, 4567, "me", false)).unwrap();
        assert_eq!(body["HostConfig"]["PortBindings"], serde_json::Value::Null);
        assert_eq!(body["HostConfig"]["Ulimits"], serde_json::Value::Null);
        let command = ["--host", "127.0.0.1", "--port", "4567"];
        assert_eq!(body["Cmd"], serde_json::json!(command));
    }
}
