// Packets that a peer sends for tensorpipe, through all readers and through the
// gate of either side. The first byte says of which.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "transport/packet_gate.h"
#include "transport/packets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tensorferry;
  if (size == 0) return 0;
  const absl::string_view packet(reinterpret_cast<const char*>(data) + 1,
                                 size - 1);
  ReadHello(packet).IgnoreError();
  ReadBrochure(packet).IgnoreError();
  ReadBrochureAnswer(packet).IgnoreError();
  CheckWellFormed(packet).IgnoreError();
  CheckDescriptor(packet, {{{"cpu", 0}, {"cpu", 0}}}).IgnoreError();

  const absl::string_view hello("\xb8\x00\xb9\x01\xbd\x00", 6);
  const absl::string_view brochure(
      "\xb9\x02\xbb\x01\xbd\x01"
      "f\xbd\x01"
      "d\xbb\x01\xbd\x05"
      "basic\xbb\x01\xb9\x02\xbd\x03"
      "cpu\x00\xbd\x03"
      "any",
      37);
  PacketGate gate(data[0] % 2 == 0, "f", "d");
  if (data[0] % 2 == 0) {
    if (data[0] % 4 == 0) gate.OnRead(hello).IgnoreError();
  } else {
    gate.OnWrite(hello).IgnoreError();
    gate.OnWrite(brochure).IgnoreError();
  }
  if (gate.OnRead(packet).ok()) gate.OnRead(packet).IgnoreError();
  return 0;
}
