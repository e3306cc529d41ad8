#ifndef TENSORFERRY_TESTS_TESTING_COPY_GATE_H_
#define TENSORFERRY_TESTS_TESTING_COPY_GATE_H_

namespace tensorferry {
namespace testing {

// Stops a program's local channels in the middle of a copy, as memory of a peer
// would that does not come: the program's process_vm_readv is its own, and
// waits before it copies a buffer. One at a time.
class CopyGate {
 public:
  CopyGate();   // shut
  ~CopyGate();  // open
  // Waits until a copy is under way. False after half a minute.
  bool AwaitOne();
  // The same, and lets it through.
  bool LetOne();
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_COPY_GATE_H_
