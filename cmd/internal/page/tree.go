package page

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strings"
)

// node is an element as the script builds it. No markup goes to an open page:
// the script has names, attributes and text, and no way to take one for another.
type node struct {
	Key      string            `json:"k,omitempty"` // in place of all else: the element of this id is as it was
	Name     string            `json:"n,omitempty"`
	Attrs    map[string]string `json:"a,omitempty"`
	Children []any             `json:"c,omitempty"` // nodes and texts

	known uint64 // with Key: the fingerprint
}

// find returns the element within n that has an id; nil: none has.
func (n *node) find(id string) *node {
	if n.Attrs["id"] == id {
		return n
	}
	for _, child := range n.Children {
		if c, ok := child.(*node); ok {
			if found := c.find(id); found != nil {
				return found
			}
		}
	}
	return nil
}

// parse reads one element of a template's output, which is XML too.
func parse(text io.Reader) (*node, error) {
	decoder := xml.NewDecoder(text)
	var open []*node
	for {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			n := &node{Name: token.Name.Local}
			for _, a := range token.Attr {
				if n.Attrs == nil {
					n.Attrs = make(map[string]string)
				}
				n.Attrs[a.Name.Local] = a.Value
			}
			if len(open) > 0 {
				top := open[len(open)-1]
				top.Children = append(top.Children, n)
			}
			open = append(open, n)
		case xml.EndElement:
			last := open[len(open)-1]
			if open = open[:len(open)-1]; len(open) == 0 {
				return last, nil
			}
		case xml.CharData:
			// Space between elements is the template's, and means nothing.
			if text := string(token); strings.TrimSpace(text) != "" {
				if len(open) == 0 {
					return nil, errors.New("text outside of an element")
				}
				top := open[len(open)-1]
				top.Children = append(top.Children, text)
			}
		}
	}
}

// shorten puts a key in the place of each element with an id that is as it was in
// before, and notes in after how all are.
func shorten(n *node, before, after map[string]uint64) *node {
	short, _ := n.shorten(before, after)
	return short
}

// shorten returns the fingerprint of the whole, too.
func (n *node) shorten(before, after map[string]uint64) (*node, uint64) {
	if n.Key != "" {
		after[n.Key] = n.known
		return n, n.known
	}
	hash := fnv.New64a()
	text := func(s string) {
		_, _ = io.WriteString(hash, s)
		_, _ = hash.Write([]byte{0})
	}
	text(n.Name)
	for _, name := range slices.Sorted(maps.Keys(n.Attrs)) {
		text(name)
		text(n.Attrs[name])
	}
	short := *n
	short.Children = make([]any, len(n.Children))
	for i, child := range n.Children {
		short.Children[i] = child
		switch child := child.(type) {
		case string:
			text(child)
		case *node:
			c, sum := child.shorten(before, after)
			short.Children[i] = c
			_, _ = hash.Write(binary.LittleEndian.AppendUint64(nil, sum))
		}
	}
	sum := hash.Sum64()
	id := n.Attrs["id"]
	if id == "" {
		return &short, sum
	}
	after[id] = sum
	if was, ok := before[id]; ok && was == sum {
		return &node{Key: id}, sum
	}
	return &short, sum
}

// fingerprint is that of the page's files.
func fingerprint() string {
	hash := sha256.New()
	for _, name := range []string{"page.html", "style.css", "script.js"} {
		text, err := files.ReadFile(name)
		if err != nil {
			panic(err) // it is embedded
		}
		_, _ = hash.Write(text)
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}
