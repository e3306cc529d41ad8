#ifndef TENSORFERRY_TESTS_CUDA_WAYS_H_
#define TENSORFERRY_TESTS_CUDA_WAYS_H_

#include <c10/core/Device.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "control/offer.h"

namespace tensorferry {
namespace testing {

// How tensors go between the devices of two peers. `local` is for CPUs: over it
// they go through host memory.
struct Way {
  std::string channel;
  std::string there;  // "cuda:0=cuda:1"
  std::string wire = "unix";
  int processes = 1;

  c10::Device source() const;
  c10::Device target() const;
  std::string path() const { return wire + "/" + channel; }
  bool goes_through_host() const { return channel == "local"; }
  // Whether one GPU is not enough.
  bool needs_two() const { return there.find('1') != std::string::npos; }
};

void PrintTo(const Way& way, std::ostream* out);
std::string NameOf(const ::testing::TestParamInfo<Way>& info);

// Each pair of devices over each channel that carries it, on unix sockets.
std::vector<Way> WaysInOneProcess();
std::vector<Way> WaysInTwoProcesses();

// For a session that goes this way and no other.
Offer OfferOf(const Way& way, const std::vector<std::string>& rules);
inline Offer OfferOf(const Way& way) { return OfferOf(way, {way.there}); }

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_WAYS_H_
