//! The client: a prompt that resumes
