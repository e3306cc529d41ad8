#ifndef TENSORFERRY_TESTS_TESTING_FIXED_GRANTS_H_
#define TENSORFERRY_TESTS_TESTING_FIXED_GRANTS_H_

#include <utility>

#include "control/authorizer.h"

namespace tensorferry {
namespace testing {

// Gives everybody the same.
class FixedGrants : public Authorizer {
 public:
  explicit FixedGrants(Grants grants) : grants_(std::move(grants)) {}
  Grants GrantsOf(const Identity&) const override { return grants_; }

 private:
  const Grants grants_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_FIXED_GRANTS_H_
