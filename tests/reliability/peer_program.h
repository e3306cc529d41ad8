#ifndef TENSORFERRY_TESTS_RELIABILITY_PEER_PROGRAM_H_
#define TENSORFERRY_TESTS_RELIABILITY_PEER_PROGRAM_H_

namespace tensorferry {
namespace testing {

// A peer in a process of its own that does what it is told, for RemotePeer.
// Runs if argv[1] is "--peer", which further arguments follow, each key=value:
//
//   name=, control=ADDRESS or none, data=HOST, lease=SECONDS, receive=off,
//   descriptors=, address_space=, denied=CALL+CALL, undumpable=1, full_shm=1,
//   user=, network=PATH: see Confinement
//
// It writes "0 OK ADDRESS", or a status and ends. Then it reads commands, one
// a line, each with a number, and answers "NUMBER CODE TEXT" when it is done
// with it; many may be under way:
//
//   N connect ADDRESS PATH|any MS     opens a session, called N from then on
//   N send S COUNT BYTES MS [WINDOW]  messages on session S, WINDOW at a time;
//                                     an error ends in " after_ms=MS"
//   N echo S COUNT BYTES MS           calls that bring the tensor back
//   N churn ADDRESS PATH COUNT BYTES  sessions opened, used and closed
//   N load ADDRESS+... RATE MS BYTES  sessions of random kinds, RATE a second
//   N watch BYTES                     answers when so much more has moved
//   N close S MS
//   N stats                           what has come in and gone wrong
//   N trim                            gives free memory back to the system;
//                                     KiB of heap in use
//
// Whatever is received is checked. Events carry the number 0: "0 accepted S",
// "0 ended S CODE TEXT", "0 lost S CODE TEXT" (a receive that failed).
int PeerProgram(int argc, char** argv);
bool IsPeerProgram(int argc, char** argv);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_PEER_PROGRAM_H_
