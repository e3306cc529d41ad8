#ifndef TENSORFERRY_SERIALIZATION_TORCH_ERRORS_H_
#define TENSORFERRY_SERIALIZATION_TORCH_ERRORS_H_

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// libtorch has an error of its own for a device without memory, but none for a
// host.
inline bool IsOutOfMemory(const c10::Error& error) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         absl::StrContains(error.what_without_backtrace(),
                           "DefaultCPUAllocator: can't allocate memory");
}

// What libtorch says; of a GPU without memory by CUDA's name of that too, as of
// each other error of CUDA's.
inline std::string TextOf(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return absl::StrContains(text, "CUDA out of memory")
             ? absl::StrCat("cudaErrorMemoryAllocation (", text, ")")
             : text;
}

// The edge at which libtorch's exceptions end: runs `step`, which returns a
// Status or StatusOr, and turns what it throws into a status of `code` whose
// message starts with what `context()` returns; a device or host without
// memory is RESOURCE_EXHAUSTED.
template <class Context, class Step>
auto CatchTorchErrors(absl::StatusCode code, Context context, Step step)
    -> decltype(step()) {
  try {
    return step();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat(context(), ": no memory left"));
  } catch (const c10::Error& error) {
    return absl::Status(
        IsOutOfMemory(error) ? absl::StatusCode::kResourceExhausted : code,
        absl::StrCat(context(), ": ", TextOf(error)));
  } catch (const std::exception& error) {
    return absl::Status(code, absl::StrCat(context(), ": ", error.what()));
  }
}

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_TORCH_ERRORS_H_
