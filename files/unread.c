/*
 * unread.c - recognizes files of other programs that the library does not read
 *
 * They are refused by name: the message says what the file is, and how to make a file from it that is read.
 */
#include "unread.h"

#include <string.h>
#include <strings.h>

const char *qz_unread_kind(const uint8_t *head, size_t bytes, const char *path)
{
    static const char onnx[] =
        "an ONNX model, which is not read here; in Python, quantize.onnx.load gives its tensors, and "
        "quantize.save writes them to an .npz; quantize.onnx.quantize_model makes a 4-bit "
        "model of it";
    static const char pickle[] = "a pickle, as PyTorch's .pt, .pth and .bin are, which is never read: that could run "
                                 "any program; torch.load(..., "
                                 "weights_only=True) gives its tensors, and numpy.savez writes them to an .npz";
    static const char hdf5[] =
        "an HDF5 file, which is not read; the Python package h5py gives its arrays, and numpy.savez "
        "writes them to an .npz";
    static const struct {
        const char *extension, *text;
    } known[] = {{".onnx", onnx},  {".pt", pickle},     {".pth", pickle}, {".bin", pickle},
                 {".pkl", pickle}, {".pickle", pickle}, {".h5", hdf5},    {".hdf5", hdf5}};
    if (bytes >= 8 && memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0)
        return hdf5;
    if (bytes >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0)
        return "begins with a byte order mark, which readers of JSON refuse; save it without one, as UTF-8";
    /* The protocol of a pickle, then a frame, a place in its memory, a container or an import. */
    if (bytes >= 3 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && head[2] != 0 &&
        strchr("\x95}](cKM\x8a\x8c", head[2]) != NULL)
        return pickle;
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    for (size_t i = 0; dot && i < sizeof known / sizeof known[0]; i++)
        if (strcasecmp(dot, known[i].extension) == 0)
            return known[i].text;
    return NULL;
}
