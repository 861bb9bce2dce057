package dialer

import (
	"context"
	"reflect"
)

// lookupContext is a context whose httptrace hooks for connections are silent, for the resolver's own connections to
// its name servers are not those that the caller traces; those for DNS stay. net.Dialer does the same, from inside:
// the type of the hooks is internal/nettrace's, so reflection has to do. Should that type change, the hooks are no
// longer silenced.
type lookupContext struct{ context.Context }

// Value implements [context.Context].
func (c lookupContext) Value(key any) any {
	value := c.Context.Value(key)
	if value == nil || reflect.TypeOf(key).String() != "nettrace.TraceKey" {
		return value
	}
	hooks := reflect.ValueOf(value)
	if hooks.Kind() != reflect.Pointer || hooks.Elem().Kind() != reflect.Struct {
		return value
	}
	silent := reflect.New(hooks.Type().Elem())
	silent.Elem().Set(hooks.Elem())
	for _, name := range []string{"ConnectStart", "ConnectDone"} {
		if hook := silent.Elem().FieldByName(name); hook.CanSet() {
			hook.SetZero()
		}
	}
	return silent.Interface()
}
