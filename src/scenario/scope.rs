//! What a place in a scenario knows: its variables, and what patterns took already. A branch works on its own copy until it holds.

use bytes::Bytes;

use super::ast::{Case, CaseValue};
use super::board::Taken;
use crate::notation::eval::{Bound, Env, EvalError};
use crate::notation::expr::{Expr, Payload, Text};
use crate::wire::amf0::Value;

/// Variables and marks.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) env: Env,
    pub(super) taken: Taken,
}

fn say(error: EvalError) -> String {
    error.to_string()
}

impl Scope {
    /// The given names, the query of stream names and the row's variables; random bytes from this seed.
    ///
    /// # Errors
    /// When a row's value cannot be had.
    pub(super) fn new(seed: u64, given: &[(&str, &str)], query: &str, case: &Case) -> Result<Scope, String> {
        let mut scope = Scope { env: Env::new(seed), taken: Taken::new() };
        scope.env.keep_last(query);
        for (name, value) in given {
            scope.env.set(name, Bound::Value(Value::from(*value)));
        }
        for (name, value) in &case.vars {
            match value {
                CaseValue::Value(expr) => {
                    let value = scope.env.value(expr).map_err(say)?;
                    scope.env.set(name, Bound::Value(value));
                }
                CaseValue::Payload(payload) => scope.bind_payload(name, payload)?,
            }
        }
        Ok(scope)
    }

    /// A text as UTF-8.
    pub(super) fn text(&self, text: &Text) -> Result<String, String> {
        self.env.string(text).map_err(say)
    }

    /// The number that an expression stands for.
    pub(super) fn number(&self, expr: &Expr) -> Result<f64, String> {
        self.env.number(expr).map_err(say)
    }

    /// As 32 bits.
    pub(super) fn u32(&self, expr: &Expr) -> Result<u32, String> {
        self.env.u32(expr).map_err(say)
    }

    /// An optional number as 32 bits.
    pub(super) fn maybe(&self, expr: &Option<Expr>) -> Result<Option<u32>, String> {
        expr.as_ref().map(|expr| self.u32(expr)).transpose()
    }

    /// The fields of an object.
    pub(super) fn fields(&self, expr: &Expr) -> Result<Vec<(String, Value)>, String> {
        match self.env.value(expr).map_err(say)? {
            Value::Object(fields) => Ok(fields.into_iter().map(|(k, v)| (k.to_string(), v)).collect()),
            _ => Err("an object is needed".into()),
        }
    }

    /// The bytes of a payload.
    pub(super) fn bytes(&mut self, payload: &Payload) -> Result<Bytes, String> {
        self.env.payload(payload).map(Bytes::from).map_err(say)
    }

    /// Binds a name to the bytes of a payload.
    pub(super) fn bind_payload(&mut self, name: &str, payload: &Payload) -> Result<(), String> {
        let bytes = self.bytes(payload)?;
        self.env.set(name, Bound::Bytes(bytes));
        Ok(())
    }

    /// Binds a name to a number; without one the name is unbound.
    pub(super) fn bind_number(&mut self, name: &str, n: Option<f64>) {
        match n {
            Some(n) => self.env.set(name, Bound::Value(Value::Number(n))),
            None => self.env.unset(name),
        }
    }
}
