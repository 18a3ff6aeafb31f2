//! The operations of a conversation besides running, each on the real server.

mod branches;
mod children;
mod client_tools;
mod credentials;
mod full_server;
mod goals;
mod idle;
mod lease;
mod listing;
mod mcp;
mod options;
mod pending;
mod reload;
mod sending;
mod settings;
mod start;
mod switches;
mod tokens;

use std::{future::poll_fn, pin::Pin, time::Duration};

use futures_core::Stream;
use openhands::{
    Agent, Conversation, Event, LocalServer, Payload, RunOutcome, Workspace, WorkspaceExt,
    protocol::config::Llm,
    testkit::{Script, ScriptedModel},
};
use tokio::time::timeout;

/// A duration longer than any operation takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn llm(model: &ScriptedModel) -> Llm {
    Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1)
}

fn agent(model: &ScriptedModel) -> Agent {
    Agent::default_preset(llm(model)).cli_mode(true)
}

async fn model(script: Script) -> ScriptedModel {
    ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap()
}

/// Starts a model that always returns the same text.
async fn says(text: &str) -> ScriptedModel {
    model(Script::new().forever(|s| s.text(text))).await
}

/// Returns whether the server is of the generation before the session socket.
async fn is_old(server: &LocalServer) -> bool {
    let info = server.client().server_info().await.unwrap();
    !info.has_session_socket()
}

fn workspace(server: &LocalServer) -> Workspace {
    server.workspace(server.workspace_dir())
}

async fn started(server: &LocalServer, model: &ScriptedModel) -> Conversation {
    let builder = Conversation::builder(&workspace(server), agent(model));
    builder.start().await.unwrap()
}

async fn outcome(conversation: &Conversation) -> RunOutcome {
    timeout(LONG, conversation.run()).await.unwrap().unwrap()
}

async fn finishes(conversation: &Conversation) {
    let outcome = outcome(conversation).await;
    assert!(outcome.is_finished(), "{outcome}");
}

/// Sends a message, runs the agent until it finishes, and compares its answer.
async fn answers(conversation: &Conversation, message: &str, expected: &str) {
    conversation.send(message).await.unwrap();
    finishes(conversation).await;
    let answer = conversation.agent().final_response().await.unwrap();
    assert_eq!(answer, expected);
}

/// Approves the only pending action.
async fn approves(conversation: &Conversation) {
    let approvals = conversation.approvals();
    let pending = approvals.pending();
    assert_eq!(pending.len(), 1, "{pending:?}");
    approvals.approve(&pending).await.unwrap();
}

/// Returns the next item of a stream. Panics if it takes too long.
async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    let next = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx));
    timeout(LONG, next).await.unwrap()
}

fn messages<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    let texts = events
        .into_iter()
        .filter_map(|event| match event.payload() {
            Payload::Message(body) => Some(body.llm_message.text()),
            _ => None,
        });
    texts.collect()
}

async fn operations(server: &LocalServer) {
    branches::branches_and_forks(server).await;
    branches::an_unknown_event_is_reported_and_nothing_moves(server).await;
    pending::pending_actions_come_as_a_stream_and_are_answered(server).await;
    pending::a_policy_asks_for_risky_actions_only(server).await;
    settings::the_state_names_hooks_secrets_and_skills(server).await;
    settings::secrets_are_given_as_text_looked_up_and_computed(server).await;
    settings::tags_titles_and_models_change(server).await;
    settings::an_unknown_profile_is_reported_and_the_model_stays(server).await;
    settings::condensing_needs_a_condenser(server).await;
    switches::the_model_of_a_stored_profile_is_used(server).await;
    switches::an_agent_of_others_takes_another_model(server).await;
    mcp::the_status_of_mcp_servers_is_reported(server).await;
    switches::a_plugin_comes_with_the_start_or_later(server).await;
    sending::model_calls_are_kept_where_asked_for(server).await;
    sending::an_automation_receives_its_conversation_and_cost(server).await;
    sending::an_interrupt_ends_one_run_and_not_the_next(server).await;
    sending::a_pause_lets_the_step_end_and_a_run_goes_on(server).await;
    tokens::text_is_seen_as_it_is_written(server).await;
    tokens::the_first_message_is_seen_from_its_first_token_on(server).await;
    tokens::a_retry_replaces_what_was_written(server).await;
}

async fn starts(server: &LocalServer) {
    start::a_start_reports_whether_it_created_a_conversation_and_what_differs(server).await;
    start::an_initial_message_always_runs(server).await;
    start::what_the_server_would_choke_on_is_refused_before_it(server).await;
    start::a_parent_must_be_there_and_share_the_directory(server).await;
    start::the_server_makes_titles_only_when_asked(server).await;
    start::a_failed_title_does_not_fail_the_run(server).await;
    start::a_conversation_is_deleted_when_closed_if_asked_for(server).await;
    start::sub_agents_reach_the_server_and_work(server).await;
    options::a_worktree_is_a_place_of_its_own(server).await;
    options::what_is_for_traces_and_containers_is_kept(server).await;
    options::a_title_is_made_by_the_profile_and_in_the_words_asked_for(server).await;
    listing::conversations_are_listed_counted_and_found_by_id(server).await;
    listing::the_log_is_searched_counted_and_taken_away(server).await;
    sending::a_picture_reaches_a_model_that_sees_and_no_other(server).await;
    sending::usage_is_reported_by_id_live_per_run_and_at_the_end(server).await;
}

async fn goals_children_and_client_tools(server: &LocalServer) {
    goals::a_goal_reports_its_progress_and_its_end(server).await;
    goals::a_goal_out_of_rounds_or_interrupted_says_so(server).await;
    goals::a_goal_while_busy_is_refused(server).await;
    children::children_are_started_awaited_and_listed(server).await;
    client_tools::results_reach_the_agent_and_the_run_waits_for_them(server).await;
    client_tools::a_result_that_arrives_while_the_model_is_asked(server).await;
    client_tools::a_call_is_executed_once_by_any_number_of_handles(server).await;
    client_tools::what_was_cut_off_is_taken_up_when_asked(server).await;
    client_tools::each_call_is_carried_out_once_over_a_link_that_breaks(server).await;
    client_tools::a_name_has_one_schema_on_a_server(server).await;
    client_tools::typed_arguments_arrive_and_invalid_ones_are_corrected(server).await;
}

// Starting a server takes long, so many scenes share one.
#[tokio::test]
async fn every_operation_behaves_as_documented() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    operations(&server).await;
    credentials::the_login_of_an_agent_is_kept_at_a_url(&server).await;
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn every_start_option_behaves_as_documented() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    starts(&server).await;
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn goals_children_and_client_tools_behave_as_documented() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home)
        .env(idle::TTL.0, idle::TTL.1)
        .start()
        .await
        .unwrap();
    let left = idle::one_is_left(&server).await;
    goals_children_and_client_tools(&server).await;
    idle::a_conversation_is_evicted_and_loaded_again(&server, left).await;
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}

// Scenes that an older server does not support check the error.
#[tokio::test]
async fn a_server_before_the_session_socket_behaves_the_same_or_reports_the_difference() {
    let home = openhands_tests::home();
    let server = openhands_tests::server_before(&home).start().await.unwrap();
    assert!(is_old(&server).await);
    operations(&server).await;
    starts(&server).await;
    goals_children_and_client_tools(&server).await;
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}
