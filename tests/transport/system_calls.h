#ifndef TENSORFERRY_TESTS_TRANSPORT_SYSTEM_CALLS_H_
#define TENSORFERRY_TESTS_TRANSPORT_SYSTEM_CALLS_H_

namespace tensorferry {

// Of this program, which makes the calls of the system through here.

// How often something was to be accepted, with or without success.
int AcceptCalls();

// The next epoll_ctl that adds a descriptor, after `good` more that are let
// through, fails with `error`. The system fails them where it has no memory, or
// a user watches as much as he may: nothing that a test can bring about alone.
void FailWatch(int good, int error);

// From now on no descriptor can be sent beside bytes, but for `error`; 0: they
// can. The system refuses who has no capabilities and has sent too many.
void FailSendingDescriptors(int error);

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSPORT_SYSTEM_CALLS_H_
