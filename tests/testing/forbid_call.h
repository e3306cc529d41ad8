#ifndef TENSORFERRY_TESTS_TESTING_FORBID_CALL_H_
#define TENSORFERRY_TESTS_TESTING_FORBID_CALL_H_

namespace tensorferry {
namespace testing {

// From now on a system call, SYS_process_vm_readv say, fails with EPERM in all
// threads of this process. False, with errno: this machine does not let us.
bool ForbidCall(int number);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_FORBID_CALL_H_
