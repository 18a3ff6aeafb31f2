//! Chooses the server for each request, and the number of servers to start. Contains no I/O.

use std::collections::{BTreeMap, VecDeque};

use super::settings::Settings;

/// The servers `S` of a fleet, and the requests `W` that wait for a place on one.
pub(super) struct Rooms<S, W> {
    rooms: BTreeMap<u64, Room<S>>,
    waiting: VecDeque<Waiter<W>>,
    next: u64,
    pub(super) starting: usize,
    pub(super) stopping: usize,
}

struct Room<S> {
    /// Not set once the server is being stopped, while leases of it are out.
    server: Option<S>,
    name: String,
    leases: usize,
    uses: u64,
    /// Whether the server gets no more leases.
    retired: bool,
    /// Whether the server has ended by itself.
    dead: bool,
}

struct Waiter<W> {
    id: u64,
    /// Name of the only server that serves the request.
    name: Option<String>,
    request: W,
}

impl<S> Room<S> {
    fn is_free(&self, settings: &Settings) -> bool {
        let uses = settings.uses.is_none_or(|most| self.uses < most);
        !self.retired && uses && self.leases < settings.at_once
    }
}

impl<S, W> Rooms<S, W> {
    pub(super) fn new() -> Self {
        Self {
            rooms: BTreeMap::new(),
            waiting: VecDeque::new(),
            next: 0,
            starting: 0,
            stopping: 0,
        }
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn add(&mut self, server: S, name: String) -> u64 {
        let id = self.id();
        let room = Room {
            server: Some(server),
            name,
            leases: 0,
            uses: 0,
            retired: false,
            dead: false,
        };
        self.rooms.insert(id, room);
        id
    }

    pub(super) fn server(&mut self, id: u64) -> Option<&mut S> {
        self.rooms.get_mut(&id)?.server.as_mut()
    }

    /// Returns whether a server with this name gets leases.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut rooms = self.rooms.values();
        rooms.any(|room| room.name == name && !room.retired)
    }

    /// Queues a request: at the end, or in front of all others.
    pub(super) fn request(&mut self, name: Option<String>, first: bool, request: W) -> u64 {
        let id = self.id();
        let waiter = Waiter { id, name, request };
        match first {
            true => self.waiting.push_front(waiter),
            false => self.waiting.push_back(waiter),
        }
        id
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.waiting.retain(|waiter| waiter.id != id);
    }

    /// Removes all requests, to fail them.
    pub(super) fn fail(&mut self) -> Vec<W> {
        self.waiting
            .drain(..)
            .map(|waiter| waiter.request)
            .collect()
    }

    /// Gives free places to requests, the oldest first. Returns the requests with their room, and
    /// whether the room has had a lease before.
    pub(super) fn give(&mut self, settings: &Settings) -> Vec<(W, u64, bool)> {
        let mut given = Vec::new();
        let mut still = VecDeque::new();
        while let Some(waiter) = self.waiting.pop_front() {
            let fits = |room: &Room<S>| {
                let named = waiter.name.as_ref().is_none_or(|name| *name == room.name);
                named && room.is_free(settings)
            };
            let rooms = self.rooms.iter_mut().filter(|(_, room)| fits(room));
            match rooms.min_by_key(|(_, room)| room.leases) {
                Some((id, room)) => {
                    given.push((waiter.request, *id, room.uses > 0));
                    room.leases += 1;
                    room.uses += 1;
                }
                None => still.push_back(waiter),
            }
        }
        self.waiting = still;
        given
    }

    /// Takes a lease back.
    pub(super) fn release(&mut self, id: u64, settings: &Settings) {
        if let Some(room) = self.rooms.get_mut(&id) {
            room.leases = room.leases.saturating_sub(1);
            room.retired |= settings.uses.is_some_and(|most| room.uses >= most);
        }
    }

    /// Gives no more leases of a server. Returns its name unless that was so before.
    pub(super) fn retire(&mut self, id: u64, dead: bool) -> Option<String> {
        let room = self.rooms.get_mut(&id)?;
        room.dead |= dead;
        let before = std::mem::replace(&mut room.retired, true);
        (!before).then(|| room.name.clone())
    }

    pub(super) fn retire_all(&mut self) {
        for room in self.rooms.values_mut() {
            room.retired = true;
        }
    }

    /// Removes the servers that are to be stopped, and counts them as being stopped: those without
    /// a lease that get no more, and those that are dead. `all`: also those with leases.
    pub(super) fn take_ended(&mut self, all: bool) -> Vec<(String, S)> {
        let mut stops = Vec::new();
        for room in self.rooms.values_mut() {
            if (all || (room.retired && (room.leases == 0 || room.dead)))
                && let Some(server) = room.server.take()
            {
                room.retired = true;
                stops.push((room.name.clone(), server));
            }
        }
        self.rooms
            .retain(|_, room| room.leases > 0 || room.server.is_some());
        self.stopping += stops.len();
        stops
    }

    /// Returns how many more servers to start now.
    pub(super) fn starts(&self, settings: &Settings) -> usize {
        let requests = self.waiting.iter().filter(|waiter| waiter.name.is_none());
        let wanted = requests.count().div_ceil(settings.at_once);
        let spares = settings.warm.saturating_sub(self.idle(settings));
        let missing = (wanted + spares).saturating_sub(self.starting);
        let present = self.rooms.values().filter(|room| !room.dead).count();
        let bound = settings
            .size
            .saturating_sub(present + self.starting + self.stopping);
        missing
            .min(bound)
            .min(settings.starts.saturating_sub(self.starting))
    }

    /// Returns how many free servers have no lease.
    pub(super) fn idle(&self, settings: &Settings) -> usize {
        let rooms = self.rooms.values();
        rooms
            .filter(|room| room.leases == 0 && room.is_free(settings))
            .count()
    }

    /// Returns whether a server can serve requests, now or after a lease is returned.
    pub(super) fn has_any(&self) -> bool {
        self.rooms.values().any(|room| !room.retired)
    }

    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(super) fn leases(&self) -> usize {
        self.rooms.values().map(|room| room.leases).sum()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether no server is left, in any state.
    pub(super) fn is_over(&self) -> bool {
        self.starting == 0
            && self.stopping == 0
            && self
                .rooms
                .values()
                .all(|room| room.server.is_none() && room.leases == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(servers: usize) -> Rooms<&'static str, u32> {
        let mut rooms = Rooms::new();
        for n in 0..servers {
            rooms.add("server", format!("s{n}"));
        }
        rooms
    }

    fn settings(size: usize) -> Settings {
        Settings {
            size,
            ..Settings::default()
        }
    }

    #[test]
    fn requests_are_served_in_order_and_a_named_one_waits_for_its_server() {
        let settings = settings(2);
        let mut rooms = rooms(1);
        rooms.request(None, false, 1);
        rooms.request(Some("s0".to_owned()), false, 2);
        rooms.request(None, false, 3);
        let given = rooms.give(&settings);
        assert_eq!(given, [(1, 1, false)]);
        assert_eq!(rooms.starts(&settings), 1, "only for the third");
        rooms.release(1, &settings);
        assert_eq!(rooms.give(&settings), [(2, 1, true)]);
        rooms.request(None, true, 4);
        rooms.release(1, &settings);
        assert_eq!(rooms.give(&settings), [(4, 1, true)]);
    }

    #[test]
    fn servers_are_started_for_requests_and_spares_within_the_bounds() {
        let mut rooms = rooms(1);
        let mut settings = settings(10);
        assert_eq!(rooms.starts(&settings), 0);
        settings.warm = 3;
        assert_eq!(rooms.starts(&settings), 2);
        settings.at_once = 2;
        for n in 0..5 {
            rooms.request(None, false, n);
        }
        assert_eq!(rooms.give(&settings).len(), 2);
        assert_eq!(
            rooms.starts(&settings),
            4,
            "two for requests, and at most four"
        );
        rooms.starting = 3;
        assert_eq!(rooms.starts(&settings), 1);
        settings.size = 4;
        assert_eq!(rooms.starts(&settings), 0);
    }

    #[test]
    fn a_retired_server_is_stopped_without_leases_and_a_dead_one_at_once() {
        let settings = settings(2);
        let mut rooms = rooms(2);
        rooms.request(None, false, 1);
        rooms.request(None, false, 2);
        assert_eq!(rooms.give(&settings).len(), 2);
        assert_eq!(rooms.retire(1, false).as_deref(), Some("s0"));
        assert_eq!(rooms.retire(1, false), None);
        assert!(rooms.take_ended(false).is_empty());
        rooms.retire(2, true);
        assert_eq!(rooms.take_ended(false).len(), 1);
        rooms.release(1, &settings);
        rooms.release(2, &settings);
        assert_eq!(rooms.take_ended(false).len(), 1);
        assert_eq!((rooms.len(), rooms.stopping), (0, 2));
        rooms.request(None, false, 3);
        assert_eq!(rooms.starts(&settings), 0, "both still end");
        rooms.stopping = 0;
        assert_eq!(rooms.starts(&settings), 1);
    }

    #[test]
    fn a_server_for_one_use_is_retired_after_it() {
        let settings = Settings {
            uses: Some(1),
            at_once: 3,
            ..settings(1)
        };
        let mut rooms = rooms(1);
        rooms.request(None, false, 1);
        rooms.request(None, false, 2);
        assert_eq!(rooms.give(&settings).len(), 1);
        rooms.release(1, &settings);
        assert!(rooms.give(&settings).is_empty());
        assert_eq!(rooms.take_ended(false).len(), 1);
    }
}
