package images

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
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
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()))
	http.ServeContent(w, r, "", info.ModTime(), f)
}

func serveFileError(w http.ResponseWriter, r *http.Request, s *Server, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		http.NotFound(w, r)
		return
	}
	s.log.Warn("serve file", "path", r.URL.Path, "err", err)
	http.Error(w, "this file cannot be read", http.StatusForbidden)
}

// serveNames lists a directory: a name a line, directories with a slash.
func serveNames(w http.ResponseWriter, r *http.Request, root *os.Root, name string) {
	entries, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, e := range entries {
		line := e.Name()
		if e.IsDir() {
			line += "/"
		}
		io.WriteString(w, line+"\n")
	}
}
