// Package fleet is a test alone: many bearerds of one account and a real Redis
// between them, with a referee who counts logins and failures. It knows bearerd as
// its users do, and in its second half as a tokens.Manager with another's clock.
package fleet
