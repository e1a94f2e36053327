package longtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/longtest"
)

func TestThatIsLong(t *testing.T) {
	longtest.Mark(t, "takes a minute")
}

func TestMark(t *testing.T) {
	for _, tt := range []struct{ arg, want string }{
		{"-test.count=1", "SKIP"},
		{"-test.short", "SKIP"},
		{"-test.short=false", "PASS"},
	} {
		out, err := exec.Command(os.Args[0], "-test.run=^TestThatIsLong$", "-test.v", tt.arg).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- "+tt.want+": TestThatIsLong") {
			t.Errorf("%s: got %v and %q, want %s", tt.arg, err, out, tt.want)
		}
	}
}

// .ci/run long runs the tests that call Mark, and would not find one whose helper
// does.
func TestMarkIsCalledByTests(t *testing.T) {
	calls := 0
	err := filepath.WalkDir("../../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				called, ok := n.(*ast.SelectorExpr)
				if !ok || called.Sel.Name != "Mark" {
					return true
				}
				if in, ok := called.X.(*ast.Ident); ok && in.Name == "longtest" {
					calls++
					if !strings.HasPrefix(f.Name.Name, "Test") {
						t.Errorf("%s: %s is no test", path, f.Name.Name)
					}
				}
				return true
			})
		}
		return nil
	})
	if err != nil || calls == 0 {
		t.Errorf("found %d calls, %v", calls, err)
	}
}
