#include "tests/cuda/ways.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tensorferry {
namespace testing {

c10::Device Way::source() const {
  return c10::Device(there.substr(0, there.find('=')));
}

c10::Device Way::target() const {
  return c10::Device(there.substr(there.find('=') + 1));
}

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.path() << " " << way.there << ", " << way.processes
       << (way.processes == 1 ? " process" : " processes");
}

std::string NameOf(const ::testing::TestParamInfo<Way>& info) {
  const Way& way = info.param;
  return absl::StrReplaceAll(
      absl::StrCat(way.wire, "_", way.channel, "_", way.there, "_in_",
                   way.processes == 1 ? "one" : "two"),
      {{":", ""}, {"=", "_to_"}});
}

std::vector<Way> WaysInOneProcess() {
  return {{"cuda_xth", "cuda:0=cuda:0"},   {"cuda_xth", "cuda:0=cuda:1"},
          {"cuda_basic", "cuda:0=cuda:0"}, {"cuda_basic", "cuda:0=cuda:1"},
          {"cuda_basic", "cuda:0=cpu"},    {"cuda_basic", "cpu=cuda:0"},
          {"local", "cuda:0=cuda:1"},      {"local", "cuda:0=cpu"},
          {"local", "cpu=cuda:0"}};
}

std::vector<Way> WaysInTwoProcesses() {
  std::vector<Way> ways = WaysInOneProcess();
  for (Way& way : ways) {
    if (way.channel == "cuda_xth") way.channel = "cuda_ipc";
    way.processes = 2;
  }
  return ways;
}

Offer OfferOf(const Way& way, const std::vector<std::string>& rules) {
  Offer offer;
  for (const std::string& rule : rules) {
    offer.to_callee.rules.push_back(*ParsePlacementRule(rule));
  }
  offer.paths = {way.wire + "/basic", way.path()};
  return offer;
}

}  // namespace testing
}  // namespace tensorferry
