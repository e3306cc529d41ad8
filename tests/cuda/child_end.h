#ifndef TENSORFERRY_TESTS_CUDA_CHILD_END_H_
#define TENSORFERRY_TESTS_CUDA_CHILD_END_H_

namespace tensorferry {
namespace testing {

// How a process that a test has started ends, once its peers, sessions and
// tensors are gone: with `result`, or, on the software GPU, with 1 if there is
// a fault for which a test would fail (TakeFaults). Says that on standard
// error.
int EndChild(int result);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_CHILD_END_H_
