#ifndef TENSORFERRY_BENCHMARKS_NEIGHBOURS_PIECES_H_
#define TENSORFERRY_BENCHMARKS_NEIGHBOURS_PIECES_H_

#include <ATen/core/Tensor.h>
#include <sys/uio.h>

#include <vector>

namespace tensorferry::benchmarks {

// Where the bytes of tensors lie, one piece for each.
inline std::vector<iovec> PiecesOf(const std::vector<at::Tensor>& tensors) {
  std::vector<iovec> pieces;
  pieces.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) {
    pieces.push_back(
        {const_cast<void*>(tensor.const_data_ptr()), tensor.nbytes()});
  }
  return pieces;
}

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_NEIGHBOURS_PIECES_H_
