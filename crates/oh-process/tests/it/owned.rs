//! Futures of operations own all that they need, so that tasks can run them. Checked at compile
//! time: nothing here runs.

use std::{path::PathBuf, time::Duration};

use oh_process::{
    AttachedServer, Environment, LocalServer, LocalServerBuilder, Provisioner,
    TemplateServerBuilder, WarmPool,
};
use oh_transport::Client;

fn spawns<F: Future<Output: Send> + Send + 'static>(_: F) {}

const _: fn(LocalServerBuilder, TemplateServerBuilder) = |server, template| {
    spawns(server.start());
    spawns(template.start());
};

const _: fn(LocalServer, WarmPool, Client) = |server, pool, client| {
    spawns(server.activate());
    spawns(server.shutdown(Duration::ZERO));
    spawns(pool.acquire().into_future());
    spawns(pool.shutdown());
    spawns(AttachedServer::attach(client).into_future());
};

const _: fn(&Provisioner, PathBuf) = |provisioner, path| {
    spawns(provisioner.candidates());
    spawns(provisioner.provision());
    spawns(Environment::at(path));
};
