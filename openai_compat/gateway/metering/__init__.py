"""What each key uses of each model: counted, limited, priced and kept."""
