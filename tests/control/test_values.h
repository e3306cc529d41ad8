// Values for tests of control/.
#ifndef TENSORFERRY_TESTS_CONTROL_TEST_VALUES_H_
#define TENSORFERRY_TESTS_CONTROL_TEST_VALUES_H_

#include <string>
#include <vector>

#include "base/placement.h"
#include "control/capabilities.h"
#include "control/offer.h"
#include "control/session_plan.h"

namespace tensorferry {
namespace testing {

// "cpu", then `devices`; paths unix/local (same host and user) and unix/basic
// from cpu to cpu, and unix/cuda for all pairs with cuda if there is such a
// device.
Capabilities PeerWith(const std::string& name,
                      const std::vector<std::string>& devices);

// Rules written as "cuda:0=cpu".
Placement Rules(const std::vector<std::string>& rules);
Offer OfferOf(const std::vector<std::string>& rules_to_callee);

// Values with something in every field. Golden bytes are made of them, so they
// must not change.
Capabilities GoldenCapabilities();
Capabilities GoldenGpuHost();  // whose GPUs know each other
Offer GoldenOffer();
SessionPlan GoldenPlan();

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CONTROL_TEST_VALUES_H_
