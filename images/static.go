package images

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"

	"edeploy/images/manifest"

	"github.com/klauspost/compress/zstd"
)

// serveHTTP cleans the path itself: clients of the original protocol write
// doubled slashes, and a redirect would confuse them.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	top, rest, _ := strings.Cut(name, "/")
	if root := s.static[top]; root != nil {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "files are read with GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		s.serveFile(w, r, root, rest)
		return
	}
	if rest, ok := strings.CutPrefix(name+"/", "api/v1/images/"); ok {
		s.serveAPI(w, r, strings.TrimSuffix(rest, "/"))
		return
	}
	http.NotFound(w, r)
}

// serveFile answers a regular file, also in ranges, or the names in a directory.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, root *os.Root, name string) {
	if name == "" {
		name = "."
	}
	if strings.Count(name, "/") > manifest.MaxDepth+2 { // below VERSION/ROLE
		http.NotFound(w, r)
		return
	}
	info, err := root.Stat(name)
	if err == nil && info.IsDir() {
		serveNames(w, r, root, name)
		return
	}
	// Opening a device or a pipe of a tree could block or do worse.
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	var f *os.File
	if err == nil {
		f, err = root.Open(name)
	}
	if err != nil {
		serveFileError(w, r, s, err)
		return
	}
	defer f.Close()
	// No guessing by content or name: clients want the bytes.
	w.Header().Set("Content-Type", "application/octet-stream")
	etag := fmt.Sprintf("%x-%x", info.ModTime().UnixNano(), info.Size())
	if info.Size() >= minCompressed && path.Ext(name) != ".edeploy" {
		w.Header().Set("Vary", "Accept-Encoding")
		if acceptsZstd(r) && s.serveCompressed(w, r, etag, f) {
			return
		}
	}
	w.Header().Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, "", info.ModTime(), f)
}

// minCompressed is the size of files that are sent as they are.
const minCompressed = 512

// acceptsZstd tells whether a client can take a file compressed: it names zstd
// and wants the whole file (RFC 9110 section 12.5.3, RFC 8878 section 7.2).
func acceptsZstd(r *http.Request) bool {
	if r.Header.Get("Range") != "" {
		return false
	}
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, parameters, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "zstd") {
			weight, given := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
			return !given || strings.Trim(weight, "0.") != ""
		}
	}
	return false
}

// maxEncoders bounds the files that are compressed at once: each takes 3 MB.
// More are sent as they are.
const maxEncoders = 8

var encoders = make(chan *zstd.Encoder, maxEncoders)

func init() {
	for range maxEncoders {
		encoders <- nil // made when it is needed
	}
}

// encoder answers one that writes to w, or none when all are in use.
func encoder(w io.Writer) (*zstd.Encoder, error) {
	select {
	case z := <-encoders:
		if z != nil {
			z.Reset(w)
			return z, nil
		}
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderLevel(zstd.SpeedDefault))
	default:
		return nil, nil
	}
}

// serveCompressed answers a file as it is compressed: files of a tree shrink to
// a quarter, and so does its manifest. Without "-zstd" the tag is that of the
// file as it is, which a client may name to go on after an interruption. It
// answers false, having sent nothing, when the file has to be sent as it is.
func (s *Server) serveCompressed(w http.ResponseWriter, r *http.Request, etag string, f io.Reader) bool {
	z, err := encoder(w)
	if z == nil {
		if err != nil {
			s.log.Warn("compress", "path", r.URL.Path, "err", err)
		}
		return false
	}
	defer func() {
		z.Reset(nil)
		encoders <- z
	}()
	w.Header().Set("ETag", `"`+etag+`-zstd"`)
	w.Header().Set("Content-Encoding", "zstd")
	if r.Method == http.MethodHead {
		return true
	}
	_, err = io.Copy(z, f)
	if err = errors.Join(err, z.Close()); err != nil {
		s.log.Info("serve file", "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
	return true
}

func serveFileError(w http.ResponseWriter, r *http.Request, s *Server, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		http.NotFound(w, r)
		return
	}
	s.log.Warn("serve file", "path", r.URL.Path, "err", err)
	http.Error(w, "this file cannot be read", http.StatusForbidden)
}

// serveNames lists a directory: a name a line, directories with a slash. The
// names are in order, unless there are so many that they are not in memory at once.
func serveNames(w http.ResponseWriter, r *http.Request, root *os.Root, name string) {
	const most = 10_000
	dir, err := root.Open(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer dir.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for {
		entries, err := dir.ReadDir(most)
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		for _, e := range entries {
			line := e.Name()
			if e.IsDir() {
				line += "/"
			}
			if _, err := io.WriteString(w, line+"\n"); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
