//! What the programs cost the verifier, which follows every path through them and gives up after a million instructions.

use std::fmt::Write as _;

use aya::programs::{ProgramInfo, loaded_programs};
use lab::{
    agent::{Agent, Config},
    host::Host,
};

lab::scenarios! {
    Others 5 s:
        typed_programs_leave_room,
        classic_programs_leave_room;
}

/// The programs in the order in which they are loaded, and how many instructions the verifier may follow in each: about twice what it
/// took when this was written, and a tenth of what any kernel from 5.10 on allows.
const LIMITS: [(&str, u32); 9] = [
    ("census", 95_000),
    ("owners", 2_000),
    ("inet_sock_set_state", 50_000),
    ("tcp_retransmit_skb", 2_000),
    ("tcp_retransmit_synack", 2_000),
    ("tcp_receive_reset", 1_500),
    ("tcp_send_reset", 11_000),
    ("kfree_skb", 75_000),
    ("syn_watch", 4_000),
];
/// What stands for `kfree_skb` before 6.11.
const FEXIT: &str = "tcp_timewait_state_process";
/// A name has so many bytes in the kernel (BPF_OBJ_NAME_LEN, less its end).
const NAME: usize = 15;

fn room_is_left(hooks: &str) {
    let host = Host::new("host");
    let config = Config::new("[probe]\nsyn_watch = true\n");
    let agent = Agent::start(&host, &[&config.args()[..], &[hooks]].concat());
    let ours = agent.loaded_programs();
    let mut programs: Vec<ProgramInfo> =
        loaded_programs().filter_map(Result::ok).filter(|program| ours.contains(&program.id())).collect();
    programs.sort_unstable_by_key(ProgramInfo::id);
    // Nobody's files lead to sockets before 5.11.
    let has_owners = usize::from(lab::kernel() >= (5, 11));
    assert!(
        programs.len() >= LIMITS.len() - 2 + has_owners,
        "all are loaded, but for `kfree_skb` where no typed program is wanted"
    );

    let mut limits = LIMITS.iter();
    let mut told = String::new();
    for program in &programs {
        let name = program.name_as_str().expect("every program has a name");
        let is = |known: &str| known[..known.len().min(NAME)] == name[..name.len().min(known.len())];
        let (known, limit) = limits
            .find(|(known, _)| is(known) || (*known == "kfree_skb" && is(FEXIT)))
            .expect("every program has a limit");
        // Before 5.16 the kernel does not tell; that it loads is all one can know there.
        if let Some(count) = program.verified_instruction_count() {
            writeln!(told, "verifier {known} {count}").expect("text takes text");
            assert!(
                count <= *limit,
                "{known}: the verifier followed {count} instructions, more than {limit}"
            );
        }
    }
    let tells = lab::kernel() >= (5, 16);
    assert_eq!(told.lines().count(), if tells { programs.len() } else { 0 }, "{told}");
    print(&told);
}

#[expect(clippy::print_stdout, reason = "`cargo xtask vm` collects it from every kernel")]
fn print(told: &str) {
    print!("{told}");
}

fn typed_programs_leave_room() {
    room_is_left("--hooks=btf");
}

fn classic_programs_leave_room() {
    room_is_left("--hooks=tracepoint");
}
