//! `aerie.db`: what the station knows of its cases and sorties. One SQLite file, one connection, JSON rows.
//!
//! What must reach upstream is not here but in the outbox.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params_from_iter};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sqlite::{self, DatabaseError};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Open(#[from] DatabaseError),
    #[error("the station's database failed: {0}")]
    Sql(#[from] rusqlite::Error),
    #[error("a row of the station's database cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the station's database has stopped")]
    Gone,
}

impl StoreError {
    /// The disk had no room for it.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Open(error) if error.is_full())
    }
}

/// The tables, each a key and a JSON document.
#[derive(Debug, Clone, Copy)]
pub enum Table {
    Cases,
    Sorties,
    /// When each scheduled patrol was last due, so that a restart neither repeats nor forgets one.
    Due,
    /// Who keeps the station on the ground.
    Holds,
    /// Looks that somebody wants and that were not flown yet.
    Requests,
    /// The pictures of the sortie under way, so that a crash does not forget those that were not looked at yet.
    Pictures,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Cases => "cases",
            Table::Sorties => "sorties",
            Table::Due => "due",
            Table::Holds => "holds",
            Table::Requests => "requests",
            Table::Pictures => "pictures",
        }
    }
}

/// The file in the state directory.
pub const FILE: &str = "aerie.db";

/// From nothing to the layout of today. A released step is never changed, only followed. The first finds its tables
/// there already in files of before the layouts were counted.
pub(crate) const STEPS: [&str; 1] = ["
    CREATE TABLE IF NOT EXISTS cases    (key TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sorties  (key TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS due      (key TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS holds    (key TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS requests (key TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS pictures (key TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
"];

#[derive(Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let connection = sqlite::open_whole(&dir.join(FILE), &STEPS)?;
        Ok(Store { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Writes a document and returns once it is on the disk.
    pub async fn put(&self, table: Table, key: &str, document: &impl Serialize) -> Result<(), StoreError> {
        let (key, document) = (key.to_owned(), serde_json::to_string(document)?);
        self.blocking(move |connection| {
            connection.execute(
                &format!("INSERT OR REPLACE INTO {} (key, document) VALUES (?1, ?2)", table.name()),
                (key, document),
            )?;
            Ok(())
        })
        .await
    }

    /// The newest `limit` documents by key, newest first. Keys are ULIDs or names.
    pub async fn newest<T: DeserializeOwned + Send + 'static>(
        &self,
        table: Table,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        self.documents(table, format!("ORDER BY key DESC LIMIT {limit}"), None).await
    }

    /// The documents whose keys begin so, by key.
    pub async fn beginning<T: DeserializeOwned + Send + 'static>(
        &self,
        table: Table,
        prefix: &str,
    ) -> Result<Vec<T>, StoreError> {
        let rows = "WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key".to_owned();
        self.documents(table, rows, Some(prefix.to_owned())).await
    }

    pub async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.documents(table, "WHERE key = ?1".to_owned(), Some(key.to_owned())).await?.pop())
    }

    async fn documents<T: DeserializeOwned + Send + 'static>(
        &self,
        table: Table,
        rows: String,
        parameter: Option<String>,
    ) -> Result<Vec<T>, StoreError> {
        self.blocking(move |connection| {
            let mut statement = connection.prepare(&format!("SELECT document FROM {} {rows}", table.name()))?;
            let found = statement.query_map(params_from_iter(parameter), |row| row.get::<_, String>(0))?;
            found.map(|row| Ok(serde_json::from_str(&row?)?)).collect()
        })
        .await
    }

    /// Forgets one document.
    pub async fn remove(&self, table: Table, key: &str) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.blocking(move |connection| {
            connection.execute(&format!("DELETE FROM {} WHERE key = ?1", table.name()), [key])?;
            Ok(())
        })
        .await
    }

    /// Forgets every document but those whose keys begin so.
    pub async fn keep_only(&self, table: Table, prefix: &str) -> Result<(), StoreError> {
        let prefix = prefix.to_owned();
        self.blocking(move |connection| {
            let name = table.name();
            connection.execute(&format!("DELETE FROM {name} WHERE substr(key, 1, length(?1)) <> ?1"), [prefix])?;
            Ok(())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let work = move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Gone)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_of_before_the_layouts_were_counted_is_taken_up_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let old = Connection::open(dir.path().join(FILE)).unwrap();
        old.execute_batch(
            "CREATE TABLE cases (key TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
             INSERT INTO cases VALUES ('01', '\"kept\"')",
        )
        .unwrap();
        drop(old);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.get::<String>(Table::Cases, "01").await.unwrap().as_deref(), Some("kept"));
        store.put(Table::Holds, "hold", &"new").await.unwrap();
    }
}
