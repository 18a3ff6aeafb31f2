//! The owner of a container ends in every way. No container is left.

use std::{
    thread,
    time::{Duration, Instant},
};

use openhands::sandbox::DockerTemplate;
use openhands_tests::containers::{builder, containers, docker, eventually};
use tokio::time::timeout;

use super::{
    images::stand_in,
    owners::{Owner, act, act_with_pool, chance, role},
};

fn leaves_nothing(test: &str, way: &str) {
    if let Some(way) = role() {
        return act(stand_in(test), &way);
    }
    let owner = Owner::start(&format!("cleanup::{test}"), way).prints("OWNS");
    match way {
        "exit" | "panic" => assert!(!owner.wait()),
        "interrupt" => {
            assert_eq!(containers(test).len(), 1);
            owner.signal("-INT");
            assert!(!owner.wait());
        }
        _ => {
            assert_eq!(containers(test).len(), 1);
            owner.kill();
        }
    }
    eventually("no container", || containers(test).is_empty());
}

#[test]
fn a_killed_owner_of_a_paused_container() {
    leaves_nothing("a_killed_owner_of_a_paused_container", "paused");
}

#[test]
fn an_interrupted_owner() {
    leaves_nothing("an_interrupted_owner", "interrupt");
}

#[test]
fn an_owner_that_exits() {
    leaves_nothing("an_owner_that_exits", "exit");
}

#[test]
fn an_owner_that_panics() {
    leaves_nothing("an_owner_that_panics", "panic");
}

#[test]
fn an_owner_of_a_pool_that_is_killed_or_panics() {
    let test = "an_owner_of_a_pool_that_is_killed_or_panics";
    if let Some(way) = role() {
        return act_with_pool(stand_in(test), &way);
    }
    for way in ["full", "refilling", "panic"] {
        let owner = Owner::start(&format!("cleanup::{test}"), way).prints("OWNS");
        match way {
            "panic" => assert!(!owner.wait()),
            _ => {
                let owned = containers(test).len();
                assert!(if way == "full" {
                    owned == 3
                } else {
                    owned >= 1
                });
                owner.kill();
            }
        }
        assert_eq!(containers(test), [""; 0], "{way}");
    }
}

#[test]
fn a_killed_owner_of_a_template_and_its_servers() {
    let test = "a_killed_owner_of_a_template_and_its_servers";
    if role().is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(async {
            let template = DockerTemplate::start(2, builder(test)).await.unwrap();
            let server = template.server().await.unwrap();
            println!("OWNS {}", server.url());
            std::future::pending::<()>().await;
        });
    }
    let owner = Owner::start(&format!("cleanup::{test}"), "kill").prints("OWNS");
    assert_eq!(containers(test).len(), 1);
    owner.kill();
    assert_eq!(containers(test), [""; 0]);
}

#[test]
fn a_killed_owner_beside_another_one() {
    let test = "a_killed_owner_beside_another_one";
    if let Some(way) = role() {
        return act(stand_in(test), &way);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = stand_in("the_other_owner").start();
    let other = runtime.block_on(start).unwrap();
    let owner = Owner::start(&format!("cleanup::{test}"), "kill").prints("OWNS");
    assert_eq!(containers(test).len(), 1);
    owner.kill();
    assert_eq!(containers(test), [""; 0]);
    assert_eq!(containers("the_other_owner"), [other.id()]);
    runtime.block_on(async {
        other.client().server_info().await.unwrap();
        other.shutdown(Duration::from_secs(5)).await.unwrap();
    });
    assert_eq!(containers("the_other_owner"), [""; 0]);
}

#[test]
fn an_owner_killed_at_random_moments_of_its_start() {
    let test = "an_owner_killed_at_random_moments_of_its_start";
    if let Some(way) = role() {
        return act(stand_in(test), &way);
    }
    let begun = Instant::now();
    Owner::start(&format!("cleanup::{test}"), "kill")
        .prints("OWNS")
        .kill();
    let whole = u64::try_from(begun.elapsed().as_millis()).unwrap();
    let mut chance = chance();
    let moments: Vec<u64> = (0..10).map(|_| chance.pick(0..=whole)).collect();
    // Concurrently, because a keeper waits for containers that the engine may be creating.
    thread::scope(|scope| {
        for moment in moments {
            scope.spawn(move || {
                let owner = Owner::start(&format!("cleanup::{test}"), "kill").prints("BEGINS");
                thread::sleep(Duration::from_millis(moment));
                owner.kill();
            });
        }
    });
    assert_eq!(containers(test), [""; 0]);
}

#[tokio::test]
async fn a_start_that_is_dropped_at_any_step() {
    let tag = "dropped";
    let (builder, begun) = (stand_in(tag), Instant::now());
    let server = builder.start().await.unwrap();
    let whole = begun.elapsed();
    drop(server);
    let mut completed = 0;
    for part in 0..=12 {
        let start = timeout(whole * part / 8, stand_in(tag).start()).await;
        completed += u32::from(start.is_ok());
    }
    // The others were dropped at steps up to the last one.
    assert!((1..=12).contains(&completed), "{completed}");
    // The engine may be creating containers of requests that were dropped.
    tokio::time::sleep(Duration::from_secs(2)).await;
    eventually("nothing left", || containers(tag).is_empty());
}

#[tokio::test]
async fn a_container_that_others_remove_is_no_error_at_the_end() {
    let tag = "removed";
    let server = stand_in(tag).start().await.unwrap();
    docker(&["rm", "--force", server.id()]);
    server.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(containers(tag), [""; 0]);
}
