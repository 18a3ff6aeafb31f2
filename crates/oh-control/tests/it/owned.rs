//! Futures of operations own all that they need, so that tasks can run them. Checked at compile
//! time: nothing here runs.

use oh_control::Control;
use oh_protocol::ConversationId;

fn spawns<F: Future<Output: Send> + Send + 'static>(_: F) {}

const _: fn(&Control, ConversationId, &str) = |control, id, text| {
    spawns(control.create(crate::start()));
    spawns(control.send(id, text));
    spawns(control.run(id));
    spawns(control.info(id));
    spawns(control.answer(id));
    spawns(control.pause(id));
    spawns(control.interrupt(id));
    spawns(control.delete(id));
};
