/* knobs.pml: what a run of queue.pml has in it. Every line of ok.txt and mutants.txt sets some.
 *
 * Size     N items (2, 3), MAXD max_deliveries; SAME: both workers on one host, else one on each.
 * Items    sets of items, as bit masks:
 *          POISON kills its worker while its links run     PSTORE ... while it is stored or settled
 *          HOSTP kills its whole host                      SLOW is killed for its own time limit
 *          PPARK kills its worker, but parks when it runs alone
 *          SUSP0 are suspects at the start                 LATER are not pushed yet at the start
 * Faults   how often each may happen:
 *          KILL kill -9 of a worker       HOSTK of a host          SUPK of a supervisor alone
 *          STEWK of a coordinator that knows of a death, before all has been done
 *          SHUT our own SIGKILL at a deadline                      STALE a host reaped by mistake
 *          LOST a lost answer, or a call whose copy arrives late
 *          FO a failover to a replica that lacks the last script
 * Work     PARKS, GIVEUP (dead letters), REL (releases), REQ (replays), TOOL (replays by other
 *          tools), SWEEP (reasons), EMP (claims of nothing), PUT_BACK (what a bell moved goes back)
 * Choices  EQP: items 0 and 1 have equal payloads     NOBELL: no bell     LSTR: late stray calls
 *          NOBEGUNCHECK, KDFREE: leave out a check that this run's faults excuse
 *
 * M_... and L_... are mutants: the same mistakes that mutants/scripts.txt makes in the Lua, and
 * those of earlier drafts. Each says what it does where it stands.
 */
#ifndef N
#define N 2
#endif
#ifndef MAXD
#define MAXD 2
#endif
#ifndef POISON
#define POISON 0
#endif
#ifndef PSTORE
#define PSTORE 0
#endif
#ifndef HOSTP
#define HOSTP 0
#endif
#ifndef SLOW
#define SLOW 0
#endif
#ifndef PPARK
#define PPARK 0
#endif
#ifndef SUSP0
#define SUSP0 0
#endif
#ifndef LATER
#define LATER 0
#endif
#ifndef KILL
#define KILL 0
#endif
#ifndef HOSTK
#define HOSTK 0
#endif
#ifndef SUPK
#define SUPK 0
#endif
#ifndef STEWK
#define STEWK 0
#endif
#ifndef SHUT
#define SHUT 0
#endif
#ifndef STALE
#define STALE 0
#endif
#ifndef LOST
#define LOST 0
#endif
#ifndef FO
#define FO 0
#endif
#ifndef PARKS
#define PARKS 0
#endif
#ifndef GIVEUP
#define GIVEUP 0
#endif
#ifndef REL
#define REL 0
#endif
#ifndef REQ
#define REQ 0
#endif
#ifndef TOOL
#define TOOL 0
#endif
#ifndef SWEEP
#define SWEEP 0
#endif
#ifndef EMP
#define EMP 0
#endif
#ifndef PUT_BACK
#define PUT_BACK 0
#endif

byte kills = KILL, host_kills = HOSTK, supervisor_kills = SUPK, coordinator_kills = STEWK;
byte shutdowns = SHUT, wrong_reaps = STALE, losses = LOST, failovers = FO;
byte parks = PARKS, burials = GIVEUP, releases = REL, replays = REQ, tool_replays = TOOL;
byte sweeps = SWEEP, empty_claims = EMP, put_backs = PUT_BACK;
