#include "catalog/safetensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/little_endian.h"
#include "base/status_macros.h"
#include "catalog/atomic_file.h"
#include "catalog/mapped_file.h"
#include "catalog/safetensors_header.h"
#include "serialization/torch_errors.h"

namespace tensorferry {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr size_t kMaxRead = size_t{1} << 30;

struct OpenFile {
  int fd = -1;
  struct stat found = {};  // when it was opened
  uint64_t nbytes() const { return found.st_size; }
};

absl::StatusOr<OpenFile> OpenRegularFile(const std::string& path) {
  // O_NONBLOCK: to open a pipe would wait for somebody to write to it.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FileError(errno, "cannot open it");
  struct stat found;
  if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) {
    return OpenFile{fd, found};
  }
  close(fd);
  return absl::InvalidArgumentError("not a regular file");
}

absl::Status ReadAt(int fd, uint64_t offset, void* into, uint64_t nbytes) {
  char* next = static_cast<char*>(into);
  while (nbytes > 0) {
    const ssize_t got =
        pread(fd, next, std::min<uint64_t>(nbytes, kMaxRead), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return FileError(errno, absl::StrCat("cannot read at offset ", offset));
    }
    if (got == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("it ended at offset ", offset, " while it was read"));
    }
    next += got;
    offset += got;
    nbytes -= got;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadHeaderText(const OpenFile& file) {
  if (file.nbytes() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("it has ", file.nbytes(),
                     " bytes, too few for the length "
                     "of a header"));
  }
  std::array<uint8_t, kLengthBytes> bytes;
  FERRY_RETURN_IF_ERROR(ReadAt(file.fd, 0, bytes.data(), kLengthBytes));
  const uint64_t length = LoadLittleEndian(bytes.data(), bytes.size());
  if (length > kMaxSafetensorsHeader || length > file.nbytes() - kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("offset 0: the header should have ", length,
                     " bytes; the file has ", file.nbytes(), ", and at most ",
                     kMaxSafetensorsHeader, " are allowed"));
  }
  std::string text(length, '\0');
  FERRY_RETURN_IF_ERROR(ReadAt(file.fd, kLengthBytes, &text[0], length));
  return text;
}

absl::StatusOr<at::Tensor> ReadCopy(int fd, uint64_t data_start,
                                    const SafetensorsEntry& entry) {
  at::Tensor tensor =
      at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype));
  FERRY_RETURN_IF_ERROR(ReadAt(fd, data_start + entry.begin,
                               tensor.mutable_data_ptr(), entry.nbytes()));
  return tensor;
}

at::Tensor ReadMapped(const std::shared_ptr<MappedFile>& file,
                      uint64_t data_start, const SafetensorsEntry& entry) {
  return at::from_blob(
      file->at(data_start + entry.begin), entry.shape, [file](void*) {},
      at::TensorOptions().dtype(entry.dtype));
}

absl::StatusOr<NamedTensors> ReadTensors(const OpenFile& file,
                                         const std::string& path,
                                         SafetensorsMemory memory) {
  NamedTensors contents;
  FERRY_ASSIGN_OR_RETURN(contents.file_header, ReadHeaderText(file));
  const uint64_t data_start = kLengthBytes + contents.file_header.size();
  FERRY_ASSIGN_OR_RETURN(
      SafetensorsHeader header,
      ParseSafetensorsHeader(contents.file_header, file.nbytes() - data_start));
  std::shared_ptr<MappedFile> mapped;
  if (memory == SafetensorsMemory::kMapped) {
    FERRY_ASSIGN_OR_RETURN(mapped,
                           MappedFile::Create(file.fd, file.found, path));
    contents.mapped_file = mapped;
  }
  for (SafetensorsEntry& entry : header.entries) {
    const uint64_t align = c10::elementSize(entry.dtype);
    if (mapped != nullptr && (data_start + entry.begin) % align == 0 &&
        entry.nbytes() > 0) {
      contents.tensors.push_back(ReadMapped(mapped, data_start, entry));
    } else {
      FERRY_ASSIGN_OR_RETURN(at::Tensor copy,
                             ReadCopy(file.fd, data_start, entry));
      contents.tensors.push_back(std::move(copy));
    }
    contents.names.push_back(std::move(entry.name));
  }
  contents.metadata = std::move(header.metadata);
  return contents;
}

absl::Status AddContext(absl::Status status, absl::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(context, ": ", status.message()));
}

std::string TensorText(absl::string_view name) {
  return absl::StrCat("tensor \"", absl::Utf8SafeCEscape(name), "\"");
}

absl::Status CheckWritable(absl::string_view name, const at::Tensor& tensor) {
  if (name == "__metadata__") {
    return absl::InvalidArgumentError(
        "a tensor cannot be called \"__metadata__\" in a safetensors file");
  }
  if (tensor.layout() != c10::kStrided) {
    return absl::InvalidArgumentError(absl::StrCat(
        TensorText(name),
        " is not dense: a safetensors file holds dense tensors only"));
  }
  if (SafetensorsDtype(tensor.scalar_type()).empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        TensorText(name), " has dtype ", c10::toString(tensor.scalar_type()),
        ", which safetensors files do not have"));
  }
  return absl::OkStatus();
}

// What goes into a file: the header's text, and which tensor comes when.
struct Layout {
  std::string header;
  std::vector<size_t> order;  // into NamedTensors::tensors
};

SafetensorsHeader Describe(const NamedTensors& contents,
                           const std::vector<size_t>& order) {
  SafetensorsHeader header;
  header.metadata = contents.metadata;
  uint64_t offset = 0;
  for (size_t i : order) {
    const at::Tensor& tensor = contents.tensors[i];
    const uint64_t end = offset + ByteSize(tensor);
    header.entries.push_back({contents.names[i], tensor.scalar_type(),
                              tensor.sizes().vec(), offset, end});
    offset = end;
  }
  return header;
}

// Whether the header that came with the tensors says what they are now.
bool StillTrue(const NamedTensors& contents, const SafetensorsHeader& now) {
  absl::StatusOr<SafetensorsHeader> then =
      ParseSafetensorsHeader(contents.file_header, now.data_bytes());
  if (!then.ok() || then->metadata != now.metadata) return false;
  return std::equal(then->entries.begin(), then->entries.end(),
                    now.entries.begin(), now.entries.end(),
                    [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
                      return a.name == b.name && a.dtype == b.dtype &&
                             a.shape == b.shape && a.begin == b.begin &&
                             a.end == b.end;
                    });
}

absl::StatusOr<Layout> PlanFile(const NamedTensors& contents) {
  Layout layout;
  layout.order.resize(contents.tensors.size());
  std::iota(layout.order.begin(), layout.order.end(), 0);
  if (!contents.file_header.empty() &&
      StillTrue(contents, Describe(contents, layout.order))) {
    layout.header = contents.file_header;
    return layout;
  }
  // Wider elements first: then every tensor is aligned.
  std::stable_sort(layout.order.begin(), layout.order.end(),
                   [&contents](size_t a, size_t b) {
                     return contents.tensors[a].element_size() >
                            contents.tensors[b].element_size();
                   });
  layout.header = FormatSafetensorsHeader(Describe(contents, layout.order));
  if (layout.header.size() > kMaxSafetensorsHeader) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the header would have ", layout.header.size(), " bytes, at most ",
        kMaxSafetensorsHeader, " are allowed"));
  }
  return layout;
}

absl::Status AppendTensor(AtomicFile& file, const std::string& name,
                          const at::Tensor& tensor) {
  return CatchTorchErrors(
      absl::StatusCode::kInvalidArgument,
      [&] { return absl::StrCat(TensorText(name), " cannot be written"); },
      [&] {
        const at::Tensor dense =
            tensor.detach().resolve_conj().resolve_neg().cpu().contiguous();
        return file.Append(dense.const_data_ptr(), ByteSize(dense));
      });
}

absl::Status WriteTensors(const std::string& path, const NamedTensors& contents,
                          absl::FunctionRef<absl::Status()> check) {
  FERRY_RETURN_IF_ERROR(CheckNamed(contents));
  for (size_t i = 0; i < contents.names.size(); ++i) {
    FERRY_RETURN_IF_ERROR(
        CheckWritable(contents.names[i], contents.tensors[i]));
  }
  FERRY_ASSIGN_OR_RETURN(Layout layout, PlanFile(contents));
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file,
                         AtomicFile::Create(path));
  std::string length(kLengthBytes, '\0');
  StoreLittleEndian(layout.header.size(), length.size(), length.data());
  FERRY_RETURN_IF_ERROR(file->Append(length));
  FERRY_RETURN_IF_ERROR(file->Append(layout.header));
  for (size_t i : layout.order) {
    FERRY_RETURN_IF_ERROR(
        AppendTensor(*file, contents.names[i], contents.tensors[i]));
  }
  FERRY_RETURN_IF_ERROR(check());
  return file->Commit();
}

}  // namespace

absl::StatusOr<NamedTensors> ReadSafetensors(const std::string& path,
                                             SafetensorsMemory memory) {
  absl::StatusOr<OpenFile> file = OpenRegularFile(path);
  if (!file.ok()) return AddContext(file.status(), path);
  absl::Cleanup close_file = [&file] { close(file->fd); };
  absl::StatusOr<NamedTensors> contents = CatchTorchErrors(
      absl::StatusCode::kInvalidArgument, [] { return "cannot be read"; },
      [&] { return ReadTensors(*file, path, memory); });
  if (!contents.ok()) return AddContext(contents.status(), path);
  return contents;
}

absl::Status WriteSafetensors(const std::string& path,
                              const NamedTensors& contents,
                              absl::FunctionRef<absl::Status()> check) {
  return AddContext(WriteTensors(path, contents, check), path);
}

}  // namespace tensorferry
