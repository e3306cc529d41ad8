// FERRY_RETURN_IF_ERROR and FERRY_ASSIGN_OR_RETURN: early return on a status
// that is not OK. The installed absl has no macros of its own.
#ifndef TENSORFERRY_BASE_STATUS_MACROS_H_
#define TENSORFERRY_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define FERRY_RETURN_IF_ERROR(expr)                             \
  do {                                                          \
    if (absl::Status ferry_status = (expr); !ferry_status.ok()) \
      return ferry_status;                                      \
  } while (false)

#define FERRY_CONCAT_INNER_(a, b) a##b
#define FERRY_CONCAT_(a, b) FERRY_CONCAT_INNER_(a, b)

// FERRY_ASSIGN_OR_RETURN(auto plan, Negotiate(...));
#define FERRY_ASSIGN_OR_RETURN(lhs, expr) \
  FERRY_ASSIGN_OR_RETURN_(FERRY_CONCAT_(ferry_or_, __LINE__), lhs, expr)
#define FERRY_ASSIGN_OR_RETURN_(statusor, lhs, expr)       \
  auto statusor = (expr);                                  \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)

#endif  // TENSORFERRY_BASE_STATUS_MACROS_H_
