"""Figures as inline SVG and styled tables; every colour is a variable of style.css."""
