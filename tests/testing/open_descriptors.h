#ifndef TENSORFERRY_TESTS_TESTING_OPEN_DESCRIPTORS_H_
#define TENSORFERRY_TESTS_TESTING_OPEN_DESCRIPTORS_H_

#include <filesystem>
#include <iterator>

namespace tensorferry {
namespace testing {

// How many descriptors this process has, with the one that it takes to look.
inline int OpenDescriptors() {
  return static_cast<int>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_OPEN_DESCRIPTORS_H_
