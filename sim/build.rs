//! Compiles what makes a process repeatable: see `src/chance.c`.

fn main() {
    println!("cargo:rerun-if-changed=src/chance.c");
    // Whole: the standard library asks for these names weakly, which alone would bring in nothing.
    cc::Build::new().file("src/chance.c").link_lib_modifier("+whole-archive").compile("chance");
}
