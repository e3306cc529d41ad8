#ifndef TENSORFERRY_SERIALIZATION_BUFFERS_H_
#define TENSORFERRY_SERIALIZATION_BUFFERS_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "serialization/device_converter.h"
#include "serialization/manifest.h"

namespace tensorferry {

// One contiguous run of bytes that crosses the wire; the i-th region of a
// message is the i-th buffer of its manifest.
struct Region {
  std::byte* data = nullptr;  // null only if nbytes is 0
  uint64_t nbytes = 0;
  c10::Stream stream{c10::Stream::DEFAULT, c10::Device(c10::kCPU)};
  const DeviceConverter* converter = nullptr;  // of the registry in use

  c10::Device device() const { return stream.device(); }
};

// A message that is ready to be sent, and all that keeps its bytes alive and
// in place until it is destroyed. Moving it does not move the bytes.
class WriteBuffers {
 public:
  WriteBuffers() = default;
  WriteBuffers(WriteBuffers&&) = default;
  WriteBuffers& operator=(WriteBuffers&&) = default;

  const Manifest& manifest() const { return manifest_; }
  const std::vector<Region>& regions() const { return regions_; }
  uint64_t nbytes() const { return manifest_.BytesOnWire(); }

  // What is left is the manifest: the caller's tensors are let go of.
  void DropBytes();
  // Whether others hold all of the memory too, now, but for a short payload and
  // what is packed, of which there is little only if the tensors are few.
  // Compares each tensor with all.
  bool others_hold_memory() const;

 private:
  friend class Serializer;
  Manifest manifest_;
  std::vector<Region> regions_;
  std::vector<at::Tensor> tensors_;  // the caller's, or gathered copies
  std::vector<SendBuffer> prepared_;
  std::vector<c10::DataPtr> packed_;      // small storages copied together
  std::unique_ptr<std::string> payload_;  // own heap block: moves keep pointers
};

// Where in the caller's memory a storage of a message goes as it is, and what
// keeps that memory. No storage: nowhere.
struct StorageTarget {
  c10::Storage storage;
  uint64_t begin = 0;

  std::byte* data() const {
    return static_cast<std::byte*>(storage.mutable_data()) + begin;
  }
};

// Memory that a message is received into: write nbytes to each region, then
// Deserialize. Moving it does not move the bytes.
class ReadBuffers {
 public:
  ReadBuffers() = default;
  ReadBuffers(ReadBuffers&&) = default;
  ReadBuffers& operator=(ReadBuffers&&) = default;

  const Manifest& manifest() const { return manifest_; }
  const std::vector<Region>& regions() const { return regions_; }
  // Destinations that lie differently in memory than what is sent (strides,
  // aliasing, holes between their elements): Deserialize copies into each.
  int bounced() const { return bounced_; }

 private:
  friend class Allocator;
  friend class Deserializer;
  Manifest manifest_;
  std::vector<Region> regions_;
  std::vector<c10::Storage> storages_;    // by manifest storage
  std::vector<at::Tensor> destinations_;  // the caller's; undefined: ours
  std::vector<std::string> names_;        // of destinations; empty: of others
  std::vector<StorageTarget> targets_;    // by storage; no storage: ours
  std::vector<c10::DataPtr> packed_;      // regions that are copied out of
  std::unique_ptr<std::string> payload_;
  int bounced_ = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_BUFFERS_H_
