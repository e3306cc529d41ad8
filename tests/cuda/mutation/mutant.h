#ifndef TENSORFERRY_TESTS_CUDA_MUTATION_MUTANT_H_
#define TENSORFERRY_TESTS_CUDA_MUTATION_MUTANT_H_

#include <cstdlib>

#include "absl/strings/string_view.h"

namespace tensorferry {

// Whether this process is to be the mutant of this name: MUTANT in the
// environment says of which.
inline bool IsMutant(absl::string_view name) {
  static const char* const asked_for = std::getenv("MUTANT");
  return asked_for != nullptr && name == asked_for;
}

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_MUTATION_MUTANT_H_
