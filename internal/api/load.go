package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A listed is a package as go list describes it.
type listed struct {
	ImportPath, Name, Dir string
	GoFiles               []string
	ImportMap             map[string]string
	DepOnly               bool // not of this module
	Module                *struct{ Path string }
}

// A loader checks the types of packages and of what they import, all from
// source and without the bodies of functions.
type loader struct {
	fset *token.FileSet
	arch string
	list map[string]*listed
	pkgs map[string]*types.Package
}

// module returns the listings of a module's public packages for one system, by
// file name.
func module(root, system string) (map[string][]string, error) {
	goos, goarch, _ := strings.Cut(system, "/")
	cmd := exec.Command("go", "list", "-buildvcs=false", "-deps", "-json=ImportPath,Name,Dir,GoFiles,ImportMap,DepOnly,Module", "./...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			err = fmt.Errorf("go list: %w: %s", err, e.Stderr)
		}
		return nil, err
	}
	l := &loader{token.NewFileSet(), goarch, map[string]*listed{}, map[string]*types.Package{}}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &listed{}
		if err := d.Decode(p); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		l.list[p.ImportPath] = p
	}
	all := map[string][]string{}
	for _, p := range l.list {
		if p.DepOnly || !public(p) {
			continue
		}
		files, err := l.parse(p, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		pkg, err := l.check(p, files)
		if err != nil {
			return nil, err
		}
		name := short(p)
		if lines := listing(name, pkg, deprecated(files)); len(lines) > 0 {
			all[strings.ReplaceAll(name, "/", "_")+".txt"] = lines
		}
	}
	return all, nil
}

// public reports whether others may import p.
func public(p *listed) bool {
	dirs := strings.Split(p.ImportPath, "/")
	return p.Name != "main" && !slices.Contains(dirs, "internal") && !slices.Contains(dirs, "examples")
}

// short is a package's import path within the module; the root's is its name.
func short(p *listed) string {
	if p.ImportPath == p.Module.Path {
		return p.Name
	}
	return strings.TrimPrefix(p.ImportPath, p.Module.Path+"/")
}

func (l *loader) parse(p *listed, mode parser.Mode) (files []*ast.File, err error) {
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(l.fset, filepath.Join(p.Dir, name), nil, mode|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func (l *loader) check(p *listed, files []*ast.File) (*types.Package, error) {
	conf := types.Config{
		IgnoreFuncBodies: true,
		FakeImportC:      true,
		Sizes:            types.SizesFor("gc", l.arch),
		Importer: importFunc(func(path string) (*types.Package, error) {
			if mapped, ok := p.ImportMap[path]; ok {
				path = mapped
			}
			return l.load(path)
		}),
	}
	return conf.Check(p.ImportPath, l.fset, files, nil)
}

// load returns a package that another one imports.
func (l *loader) load(path string) (*types.Package, error) {
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	if pkg := l.pkgs[path]; pkg != nil {
		return pkg, nil
	}
	p := l.list[path]
	if p == nil {
		return nil, fmt.Errorf("go list does not know %s", path)
	}
	files, err := l.parse(p, 0)
	if err != nil {
		return nil, err
	}
	pkg, err := l.check(p, files)
	l.pkgs[path] = pkg
	return pkg, err
}

type importFunc func(path string) (*types.Package, error)

func (f importFunc) Import(path string) (*types.Package, error) { return f(path) }

// deprecated returns where names are declared whose comment has a paragraph
// that begins with "Deprecated:".
func deprecated(files []*ast.File) map[token.Pos]bool {
	at := map[token.Pos]bool{}
	mark := func(doc *ast.CommentGroup, names ...*ast.Ident) {
		if text := "\n\n" + doc.Text(); strings.Contains(text, "\n\nDeprecated: ") {
			for _, id := range names {
				at[id.Pos()] = true
			}
		}
	}
	for _, f := range files {
		var group *ast.CommentGroup // of the declaration around
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				mark(n.Doc, n.Name)
				return false
			case *ast.GenDecl:
				group = n.Doc
			case *ast.TypeSpec:
				mark(n.Doc, n.Name)
				mark(group, n.Name)
			case *ast.ValueSpec:
				mark(n.Doc, n.Names...)
				mark(group, n.Names...)
			case *ast.Field:
				mark(n.Doc, n.Names...)
			}
			return true
		})
	}
	return at
}
