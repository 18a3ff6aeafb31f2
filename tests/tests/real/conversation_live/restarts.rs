//! A real server that is killed and started again. The server has lost the policies that were set
//! since the conversations were created, and its log does not show that.

use std::future::IntoFuture as _;

use openhands::{
    Conversation,
    protocol::{config::ConfirmationPolicy, event::SecurityRisk},
    testkit::Script,
};

use super::{
    approvals::always,
    live::LONG,
    policies::{POLICY, is_set_before_the_run},
    stage::{Scene, Stage, act, asks, never, within},
};

/// A policy is set again if it differs from the creation's only in a default, and also if another
/// handle has set it over another link, which has ended.
#[tokio::test]
async fn a_restarted_server_gets_the_policies_of_this_process_again() {
    let home = openhands_tests::home();
    let stage = Stage::restarting(&home).await;
    let begin = async |name: &str, policy| {
        let script = Script::new().step(act("a")).finish("Done.");
        Scene::start_with(&stage, name, policy, script, |builder| {
            // A restart takes a while on a busy machine.
            builder.unreachable_after(LONG)
        })
        .await
    };
    // The risk of the command is unknown.
    let careful = ConfirmationPolicy::risky(SecurityRisk::High);
    let default = begin("default", careful.clone().confirm_unknown(false)).await;
    let approvals = default.near.approvals();
    within("a policy", approvals.set_policy(careful))
        .await
        .unwrap();
    let shared = begin("shared", never()).await;
    let live = Conversation::attach(&shared.client(), shared.near.id()).live();
    let live = within("attaching", live.into_future()).await.unwrap();
    let approvals = live.approvals();
    within("a policy", approvals.set_policy(always()))
        .await
        .unwrap();
    within("closing", live.close()).await.unwrap();
    drop((live, approvals));

    stage.restart().await;
    for scene in [&default, &shared] {
        within("a message", scene.near.send("Go.").into_future())
            .await
            .unwrap();
        asks(&scene.near).await;
        is_set_before_the_run(scene);
        let set = scene.proxy.requests_to("POST", POLICY);
        let accepted = set.iter().filter(|seen| seen.status == 200);
        assert_eq!(accepted.count(), 2, "{set:#?}");
        scene.shows(&["run"], &[]).await;
    }
    drop((default, shared));
    stage.end().await;
}
