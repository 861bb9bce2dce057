package dialer

import (
	"context"
	"reflect"
)

// lookupContext is a context without the httptrace hooks for connections, because the resolver's own connections to its
// name servers are not those that the caller traces. The DNS hooks stay. net.Dialer does the same. The type of the
// hooks is in internal/nettrace, so reflection is needed. If that type changes, the hooks are no longer removed.
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
